/** Whether the pair dialog is open, and for whom. */
export const pairing = $state<{ open: boolean; userId: string }>({ open: false, userId: "" });
