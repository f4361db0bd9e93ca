import {
  convertCssVariables,
  createTheme,
  defaultCssVariablesResolver,
  mergeMantineTheme,
  DEFAULT_THEME,
  type MantineColorsTuple,
} from '@mantine/core';

const tide: MantineColorsTuple = [
  '#e8f8f3',
  '#d3efe6',
  '#a7dfcd',
  '#76cdb2',
  '#4dbe9c',
  '#31b38d',
  '#1a9f7b',
  '#0c8a6a',
  '#0b7a63',
  '#05614e',
];

const ember: MantineColorsTuple = [
  '#fff6e3',
  '#ffeaca',
  '#ffd599',
  '#ffc65c',
  '#fdb03a',
  '#f59f1b',
  '#e48c06',
  '#c27400',
  '#9c5c00',
  '#774500',
];

/** Greys with a little green in them, from the lightest text to the darkest ground. */
const dark: MantineColorsTuple = [
  '#dbe4e0',
  '#b7c4be',
  '#93a39c',
  '#6d7d76',
  '#42504a',
  '#2f3b36',
  '#212b27',
  '#18201d',
  '#111816',
  '#0b100f',
];

const SYSTEM = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", Cantarell, sans-serif';

export const theme = createTheme({
  colors: { tide, ember, dark },
  primaryColor: 'tide',
  primaryShade: { light: 8, dark: 7 },
  autoContrast: true,
  defaultRadius: 'md',
  fontFamily: SYSTEM,
  fontFamilyMonospace: 'ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  headings: { fontFamily: SYSTEM, fontWeight: '650' },
  components: {
    Table: { defaultProps: { highlightOnHoverColor: 'var(--surface-soft)', borderColor: 'var(--line)' } },
    // Locking the scroll needs a style element, which a strict policy forbids.
    Modal: { defaultProps: { lockScroll: false, centered: true, radius: 'lg' } },
    Drawer: { defaultProps: { lockScroll: false } },
    Tooltip: { defaultProps: { withArrow: true, openDelay: 250, radius: 'md' } },
  },
});

/**
 * The theme's variables, put in place through the object model: a style element would be stopped by a content
 * security policy without `unsafe-inline`.
 */
export function adoptThemeVariables(): void {
  const sheet = new CSSStyleSheet();
  const resolved = defaultCssVariablesResolver(mergeMantineTheme(DEFAULT_THEME, theme));
  sheet.replaceSync(convertCssVariables(resolved, ':root'));
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
