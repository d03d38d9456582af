import type { Invite } from "../api.ts";

/** Whether the pair dialog is open, for whom, or with which invite that there is already. */
export const pairing = $state<{ open: boolean; userId: string; invite: Invite | null }>({ open: false, userId: "", invite: null });
