import { fileURLToPath } from 'node:url';
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vite';

const sdk = (path: string) => fileURLToPath(new URL(`../sdk/js/src/${path}`, import.meta.url));

export default defineConfig({
  plugins: [react()],
  resolve: {
    // The client is built from its source, so that one `npm ci` here is all that a build needs.
    alias: [
      { find: /^@permcast\/client\/react$/, replacement: sdk('react/index.tsx') },
      { find: /^@permcast\/client$/, replacement: sdk('index.ts') },
    ],
    dedupe: ['react', 'react-dom'],
  },
  build: {
    target: 'es2022',
    // Everything comes from our own origin as a file: the page works under a policy without `unsafe-inline` and `data:`.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
  },
  server: { proxy: { '^/(v1|oauth|access|demo.json|.well-known)': { target: process.env['PERMCAST'] ?? 'http://127.0.0.1:8080', ws: true } } },
});
