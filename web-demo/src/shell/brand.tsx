/** The mark: a point, and what goes out from it. */
export function Mark({ size = 28 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="9" fill="#0b7a63" />
      <g fill="none" stroke="#fff" strokeWidth="2.6" strokeLinecap="round">
        <path d="M12.5 11.2a6.8 6.8 0 0 1 0 9.6" />
        <path d="M17 7.6a12 12 0 0 1 0 16.8" opacity=".72" />
        <path d="M21.5 4.6a17.4 17.4 0 0 1 0 22.8" opacity=".42" />
      </g>
      <circle cx="8.4" cy="16" r="2.6" fill="#ffc65c" />
    </svg>
  );
}
