/** Policies of approvals as texts in forms, and in words. */
import type { ApprovalPolicy } from "./api.ts";
import { t } from "./strings.ts";

export const FRESH_POLICY: ApprovalPolicy = {
  tool: "*",
  args: {},
  for_risk: [],
  risk: "",
  deciders: ["requester"],
  quorum: 1,
  two_person: false,
  remind_after_s: 900,
  escalate_after_s: 0,
  escalate_to: [],
  expire_after_s: 0,
};

/** What stands in the field of conditions; null for what is no JSON object of objects. */
export function conditions(text: string): ApprovalPolicy["args"] | null {
  if (text.trim() === "") return {};
  try {
    const found: unknown = JSON.parse(text);
    const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject(found) && Object.values(found).every(isObject) ? (found as ApprovalPolicy["args"]) : null;
  } catch {
    return null;
  }
}

export const listed = (text: string): string[] => text.split(/[\s,]+/).filter((one) => one !== "");
export const spaced = (words: readonly string[]): string => words.join(", ");

const minutes = (seconds: number): string => t("approvals.policy.minutes", { n: Math.round(seconds / 60) });

/** All of it that is not as usual, in short lines. */
export function policyWords(policy: ApprovalPolicy): string[] {
  const lines = [t("approvals.policy.words.who", { who: spaced(policy.deciders), n: policy.quorum })];
  if (Object.keys(policy.args).length > 0) lines.unshift(`${t("approvals.policy.with")}: ${JSON.stringify(policy.args)}`);
  if (policy.for_risk.length > 0) lines.push(`${t("approvals.policy.for")}: ${spaced(policy.for_risk)}`);
  if (policy.risk !== "") lines.push(`${t("approvals.policy.raise")}: ${policy.risk}`);
  if (policy.two_person) lines.push(t("approvals.policy.two.long"));
  if (policy.escalate_to.length > 0) lines.push(`${t("approvals.policy.escalate")}: ${spaced(policy.escalate_to)} (${minutes(policy.escalate_after_s)})`);
  if (policy.remind_after_s !== FRESH_POLICY.remind_after_s) lines.push(`${t("approvals.policy.remind")}: ${Math.round(policy.remind_after_s / 60)}`);
  if (policy.expire_after_s > 0) lines.push(`${t("approvals.policy.expire")}: ${Math.round(policy.expire_after_s / 60)}`);
  return lines;
}
