/** Whether the command palette, or the sheet of keys, is open. */
export const palette = $state({ open: false, help: false });
