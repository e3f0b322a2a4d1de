-- Who may call what: the groups of hosts, and no other role.

do $grants$
declare
  pool text := current_setting('lessor.pool_id');
  groups text[] := array['member', 'refresher', 'admin'];
  allowed jsonb := '{
    "member": [
      "schema_version", "pool_info", "begin_term", "resume_term", "end_term", "beat", "end_silent_term", "claim_seats",
      "withdraw_want", "give_back_seats", "release_kept_seats", "mark_handed_out", "claim_fences", "raise_fences",
      "seats_of_hosts", "news", "set_login_state", "set_limits", "clear_limit", "set_usage", "claim_reading", "claim_probe",
      "end_probe", "own_host",
      "accept_invitation", "hosts", "leave"
    ],
    "refresher": ["refresh_token", "claim_refresh", "store_refreshed", "fail_refresh", "refuse_refresh"],
    "admin": [
      "add_account", "save_account", "replace_credential", "remove_account", "set_settings", "invite", "evict", "rekey"
    ]
  }';
  kind text;
  called text;
begin
  revoke all on schema lessor from public;
  revoke all on all tables in schema lessor from public;
  revoke all on all sequences in schema lessor from public;
  revoke all on all functions in schema lessor from public;
  foreach kind in array groups loop
    if to_regrole(format('lessor_%s_%s', pool, kind)) is null then
      execute format('create role %I nologin', format('lessor_%s_%s', pool, kind));
    end if;
    execute format('grant usage on schema lessor to %I', format('lessor_%s_%s', pool, kind));
    for called in
      select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'lessor'::regnamespace and allowed->kind ? p.proname::text
    loop
      execute format('grant execute on function %s to %I', called, format('lessor_%s_%s', pool, kind));
    end loop;
  end loop;
end $grants$;
