-- LiteLLM's tables, as far as the import reads them.
CREATE TABLE "LiteLLM_BudgetTable" (budget_id text PRIMARY KEY, max_budget double precision, soft_budget double precision,
    max_parallel_requests int, tpm_limit bigint, rpm_limit bigint, tpd_limit bigint, model_max_budget jsonb,
    budget_duration text, budget_reset_at timestamp(3), allowed_models text[] DEFAULT '{}',
    temp_budget_increase double precision, temp_budget_expiry timestamp(3), created_at timestamp(3) DEFAULT now(),
    created_by text DEFAULT '', updated_at timestamp(3) DEFAULT now(), updated_by text DEFAULT '');
CREATE TABLE "LiteLLM_OrganizationTable" (organization_id text PRIMARY KEY, organization_alias text, budget_id text,
    metadata jsonb DEFAULT '{}', models text[] DEFAULT '{}', spend double precision DEFAULT 0, model_spend jsonb DEFAULT '{}',
    object_permission_id text, created_at timestamp(3) DEFAULT now(), created_by text DEFAULT '',
    updated_at timestamp(3) DEFAULT now(), updated_by text DEFAULT '');
CREATE TABLE "LiteLLM_ModelTable" (id serial PRIMARY KEY, model_aliases jsonb, created_at timestamp(3) DEFAULT now(),
    created_by text DEFAULT '', updated_at timestamp(3) DEFAULT now(), updated_by text DEFAULT '');
CREATE TABLE "LiteLLM_TeamTable" (team_id text PRIMARY KEY, team_alias text, organization_id text, object_permission_id text,
    admins text[] DEFAULT '{}', members text[] DEFAULT '{}', members_with_roles jsonb DEFAULT '{}', metadata jsonb DEFAULT '{}',
    max_budget double precision, soft_budget double precision, spend double precision DEFAULT 0, models text[] DEFAULT '{}',
    max_parallel_requests int, tpm_limit bigint, rpm_limit bigint, tpd_limit bigint, budget_duration text,
    budget_reset_at timestamp(3), blocked bool DEFAULT false, created_at timestamp(3) DEFAULT now(),
    updated_at timestamp(3) DEFAULT now(), model_spend jsonb DEFAULT '{}', model_max_budget jsonb DEFAULT '{}',
    router_settings jsonb DEFAULT '{}', team_member_permissions text[] DEFAULT '{}', access_group_ids text[] DEFAULT '{}',
    policies text[] DEFAULT '{}', default_team_member_models text[] DEFAULT '{}', budget_limits jsonb, model_id int UNIQUE,
    allow_team_guardrail_config bool DEFAULT false);
CREATE TABLE "LiteLLM_UserTable" (user_id text PRIMARY KEY, user_alias text, team_id text, sso_user_id text UNIQUE,
    organization_id text, object_permission_id text, password text, password_reset_required bool,
    last_breach_check_at timestamp(3), teams text[] DEFAULT '{}', user_role text, max_budget double precision,
    spend double precision DEFAULT 0, user_email text, models text[] DEFAULT '{}', metadata jsonb DEFAULT '{}',
    max_parallel_requests int, tpm_limit bigint, rpm_limit bigint, budget_duration text, budget_reset_at timestamp(3),
    allowed_cache_controls text[] DEFAULT '{}', policies text[] DEFAULT '{}', model_spend jsonb DEFAULT '{}',
    model_max_budget jsonb DEFAULT '{}', created_at timestamp(3) DEFAULT now(), updated_at timestamp(3) DEFAULT now());
CREATE TABLE "LiteLLM_TeamMembership" (user_id text, team_id text, spend double precision DEFAULT 0,
    total_spend double precision DEFAULT 0, budget_id text, PRIMARY KEY (user_id, team_id));
CREATE TABLE "LiteLLM_OrganizationMembership" (user_id text, organization_id text, user_role text,
    spend double precision DEFAULT 0, budget_id text, created_at timestamp(3) DEFAULT now(),
    updated_at timestamp(3) DEFAULT now(), PRIMARY KEY (user_id, organization_id));
CREATE TABLE "LiteLLM_EndUserTable" (user_id text PRIMARY KEY, alias text, spend double precision DEFAULT 0,
    allowed_model_region text, default_model text, models text[] DEFAULT '{}', budget_id text, object_permission_id text,
    blocked bool DEFAULT false);
CREATE TABLE "LiteLLM_TagTable" (tag_name text PRIMARY KEY, description text, models text[] DEFAULT '{}', model_info jsonb,
    spend double precision DEFAULT 0, budget_id text, created_at timestamp(3) DEFAULT now(), created_by text,
    updated_at timestamp(3) DEFAULT now());
CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, key_name text, key_alias text,
    soft_budget_cooldown bool DEFAULT false, spend double precision DEFAULT 0, total_spend double precision DEFAULT 0,
    expires timestamp(3), models text[] DEFAULT '{}', aliases jsonb DEFAULT '{}', config jsonb DEFAULT '{}',
    router_settings jsonb DEFAULT '{}', user_id text, team_id text, agent_id text, project_id text,
    permissions jsonb DEFAULT '{}', max_parallel_requests int, metadata jsonb DEFAULT '{}', blocked bool, tpm_limit bigint,
    rpm_limit bigint, tpd_limit bigint, max_budget double precision, budget_duration text, budget_reset_at timestamp(3),
    allowed_cache_controls text[] DEFAULT '{}', allowed_routes text[] DEFAULT '{}', key_type text, policies text[] DEFAULT '{}',
    access_group_ids text[] DEFAULT '{}', model_spend jsonb DEFAULT '{}', model_max_budget jsonb DEFAULT '{}',
    budget_fallbacks jsonb DEFAULT '{}', budget_id text, organization_id text, object_permission_id text,
    created_at timestamp(3) DEFAULT now(), created_by text, updated_at timestamp(3) DEFAULT now(), updated_by text,
    settings_updated_at timestamp(3), last_active timestamp(3), rotation_count int DEFAULT 0, auto_rotate bool DEFAULT false,
    rotation_interval text, last_rotation_at timestamp(3), key_rotation_at timestamp(3), budget_limits jsonb);
CREATE TABLE "LiteLLM_DeprecatedVerificationToken" (id text PRIMARY KEY DEFAULT gen_random_uuid()::text, token text UNIQUE,
    active_token_id text, revoke_at timestamp(3), created_at timestamp(3) DEFAULT now());
CREATE TABLE "LiteLLM_CredentialsTable" (credential_id text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    credential_name text UNIQUE, display_name text, credential_values jsonb, credential_info jsonb,
    created_at timestamp(3) DEFAULT now(), created_by text DEFAULT '', updated_at timestamp(3) DEFAULT now(),
    updated_by text DEFAULT '');
CREATE TABLE "LiteLLM_ProxyModelTable" (model_id text PRIMARY KEY, model_name text, litellm_params jsonb, model_info jsonb,
    blocked bool DEFAULT false, created_at timestamp(3) DEFAULT now(), created_by text DEFAULT '',
    updated_at timestamp(3) DEFAULT now(), updated_by text DEFAULT '');
