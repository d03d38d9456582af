/** Topics that a key is limited to: as people write and read them. */
import type { Topics } from "./api.ts";
import { t } from "./strings.ts";

const OWN = "devices/{device_id}/";

const filtersOf = (text: string): string[] | null => {
  const found = text.split(/[\s,]+/).filter((one) => one !== "");
  return found.length > 0 ? found : null;
};

/** Of two fields of a form, with spaces or commas between filters. An empty field limits nothing. */
export const topicsOf = (publish: string, subscribe: string): Topics => ({ publish: filtersOf(publish), subscribe: filtersOf(subscribe) });

export const KINDS = ["publish", "subscribe"] as const;
export type Kind = (typeof KINDS)[number];
export type Reach = "all" | "only" | "none";

/** What somebody chose of one kind, and wrote. */
export interface Choice {
  reach: Reach;
  text: string;
}
export const choiceOf = (filters: readonly string[] | null | undefined): Choice => ({
  reach: filters === null || filters === undefined ? "all" : filters.length === 0 ? "none" : "only",
  text: (filters ?? []).map((one) => one.replace(OWN, "")).join("\n"),
});
/** As it is sent. "Only" without a filter is nothing. */
export const chosen = ({ reach, text }: Choice): string[] | null => (reach === "all" ? null : reach === "none" ? [] : (filtersOf(text) ?? []));

/** Empty where nothing is limited. */
export const topicsText = (topics: Topics): string =>
  KINDS
    .flatMap((kind) => {
      const kept = topics[kind] ?? null;
      return kept === null ? [] : [t(`topics.${kind}`, { filters: kept.map((one) => one.replace(OWN, "")).join(", ") || t("topics.nothing") })];
    })
    .join(" · ");
