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

/** Empty where nothing is limited. */
export const topicsText = (topics: Topics): string =>
  (["publish", "subscribe"] as const)
    .flatMap((kind) => {
      const kept = topics[kind] ?? null;
      return kept === null ? [] : [t(`topics.${kind}`, { filters: kept.map((one) => one.replace(OWN, "")).join(", ") || t("topics.nothing") })];
    })
    .join(" · ");
