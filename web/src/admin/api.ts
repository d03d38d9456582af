/**
 * Requests of a signed-in browser, typed by the gateway's own OpenAPI document: what it does not have is a type error.
 * The cookie is the browser's; no script sees it.
 */
import createClient from "openapi-fetch";
import type { components, paths } from "../shared/openapi.d.ts";

/** A device that changes networks loses what is under way: what only reads is asked again before anybody is told. */
const AGAIN_AFTER_MS = [300, 1_500];

async function patient(request: Request): Promise<Response> {
  for (const wait of request.method === "GET" ? AGAIN_AFTER_MS : []) {
    try {
      return await fetch(request.clone());
    } catch (error) {
      if (request.signal.aborted) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  return fetch(request);
}

export const api = createClient<paths>({ credentials: "same-origin", cache: "no-store", fetch: patient });

type Schemas = components["schemas"];
export type Problem = Schemas["Problem"];
export type Me = Schemas["SignedIn"];
export type Person = Schemas["UserRow"];
export type Role = Schemas["Role"];
export type Passkey = Schemas["PasskeyRow"];
export type BrowserSession = Schemas["SessionRow"];
export type Device = Schemas["DeviceRow"];
export type Credential = Schemas["CredentialRow"];
export type Topics = Schemas["TopicsBody"];
export type OutsideTopics = Schemas["OutsideTopics"];
export type EnrolmentKey = Schemas["EnrolmentKeyRow"];
export type MqttBridge = Schemas["BridgeBody"];
export type Release = Schemas["ReleaseRow"];
export type ReleaseKey = Schemas["ReleaseKeyRow"];
export type Rollout = Schemas["RolloutRow"];
export type RolloutDevice = Schemas["RolloutDeviceRow"];
export type Automation = Schemas["AutomationRow"];
export type AutomationFiring = Schemas["FiringRow"];
export type AutomationTrial = Schemas["AutomationTrial"];
export type BoardPolicy = Schemas["PolicyRow"];
export type PolicyCheck = Schemas["CheckedBody"];
export type Thing = Schemas["ThingRow"];
export type ThingType = Schemas["ThingType"];
export type Invite = Schemas["InviteRow"];
export type CreatedInvite = Schemas["CreatedInviteBody"];
export type Alert = Schemas["AlertRow"];
export type AlertRule = Schemas["RuleRow"];
export type Notification = Schemas["NotificationRow"];
export type Place = Schemas["PlaceRow"];
export type AuditEntry = Schemas["EntryView"];
export type Approval = Schemas["ApprovalRow"];
export type ApprovalPolicy = Schemas["ApprovalPolicyRow"];
export type ApprovalPolicyChange = Schemas["ChangedApprovalPolicies"];
export type ApprovalRule = Schemas["ApprovalRuleRow"];
export type Verdict = Schemas["VerificationView"];
export type Ways = Schemas["SignInWays"];
export type Factors = Schemas["FactorsBody"];
export type Enrolment = Schemas["EnrolmentBody"];
export type SettingField = Schemas["FieldView"];
export type SettingChange = Schemas["DifferenceView"];
export type SettingHappened = Schemas["HistoryRow"];
export type BotSettings = Schemas["BotSettings"];
export type Provider = Schemas["Provider"];
export type ProviderChanges = Schemas["ProviderChanges"];
export type Tried = Schemas["TestResult"];
export type Scope = Schemas["Scope"];
export type DeviceQuery = NonNullable<paths["/api/v1/devices"]["get"]["parameters"]["query"]>;
export type AuditQuery = NonNullable<paths["/api/v1/audit"]["get"]["parameters"]["query"]>;

export const ROLES: Role[] = ["owner", "admin", "operator", "member", "viewer"];

export class Refused extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail);
  }
}

/** Whether the same question may be answered later: nobody was reached, or the gateway says so. */
export const mayComeLater = (error: unknown): boolean => !(error instanceof Refused) || error.problem.retry || error.problem.status >= 500;

const isProblem = (error: unknown): error is Problem => typeof error === "object" && error !== null && "code" in error;

/** What was answered. Throws Refused, and TypeError when nobody answers. */
export async function answered<D>(asked: Promise<{ data?: D; error?: unknown; response: Response }>): Promise<D> {
  const { data, error, response } = await asked;
  if (!response.ok) throw isProblem(error) ? new Refused(error) : new TypeError(`HTTP ${response.status}`); // of a proxy that reaches no gateway
  return data as D;
}
