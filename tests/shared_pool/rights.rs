//! What a member may not do, tried as its database role without the client of lessor.

use lessor::shared_pool::SeatClaim;

use crate::harness::{LIFE, add, hard, with_pool};

#[test]
fn a_member_can_do_only_what_its_group_may() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        add(&admin, 1).await;
        let (_member, user, _) = pool.join("member", false, false).await;
        let raw = pool.raw(&user).await;
        let refused = [
            // tables
            "select * from lessor.pool",
            "select * from lessor.account",
            "select * from lessor.refresh_token",
            "select * from lessor.host",
            "update lessor.seat set term = null",
            "delete from lessor.term",
            "insert into lessor.want values (1, 1, 1)",
            "select nextval('lessor.fence')",
            "alter sequence lessor.fence restart",
            "do $$ begin lock table lessor.seat; end $$",
            "truncate lessor.seat",
            // functions of others, and those inside
            "select * from lessor.refresh_token(1)",
            "select * from lessor.claim_refresh(1, 1, 1, 1, 1)",
            "select lessor.store_refreshed(1, 1, 1, '', '', 1)",
            "select lessor.fail_refresh(1, 1, 1, true)",
            "select * from lessor.refuse_refresh(1, 1, 1)",
            "select lessor.add_account(1, '{}', '{}', '', '', 1, 1, '[]')",
            "select lessor.save_account(1, '{}')",
            "select lessor.replace_credential(1, '{}', '{}', '', '', 1, 1)",
            "select lessor.remove_account(1)",
            "select lessor.set_settings(9, 9, 'share', 10000, 1)",
            "select * from lessor.invite('x', true, true, '', '', 1, 1, '')",
            "select lessor.evict(1)",
            "select lessor.rekey(2, '[]', '[]')",
            "select lessor.close_term(1)",
            "select lessor.another_database()",
            "select lessor.make_login(1, '')",
            "select lessor.my_host()",
            "select lessor.tidy()",
            "select * from lessor.found_pool('abcdefgh', 1, 1, 'share', 10000, 1, 'x', '', '', null)",
            // the schema and roles
            "create table lessor.mine (x integer)",
            "create or replace function lessor.schema_version() returns integer language sql as 'select 9'",
            "alter function lessor.beat(bigint, bigint) security invoker",
            "create role someone",
            "drop schema lessor cascade",
        ];
        for sql in refused {
            let error = raw.batch_execute(sql).await.expect_err(sql);
            let code = error.code().map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{sql}: {error}");
        }
        for group in ["refresher", "admin"] {
            let sql = format!("set role lessor_{}_{group}", pool.name);
            assert_eq!(raw.batch_execute(&sql).await.expect_err(&sql).code().unwrap().code(), "42501");
        }
        // what it may
        raw.batch_execute("select lessor.schema_version(); select lessor.news(null, null)").await.unwrap();
    });
}

#[test]
fn nobody_but_hosts_may_call_anything() {
    with_pool(hard(1), async |pool| {
        let root = pool.root().await;
        let open = "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p \
            where p.pronamespace = 'lessor'::regnamespace and has_function_privilege('public', p.oid, 'execute')";
        assert_eq!(root.query_one(open, &[]).await.unwrap().get::<_, Option<&str>>(0), None);
        // every function that runs with the owner's rights has its search path pinned
        let loose = "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p \
            where p.pronamespace = 'lessor'::regnamespace and p.prosecdef \
            and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)";
        assert_eq!(root.query_one(loose, &[]).await.unwrap().get::<_, Option<&str>>(0), None);
        // and every one that a host may call runs with them, so that it needs no right on a table
        let invoker = "select string_agg(p.oid::regprocedure::text, ', ') from pg_proc p, pg_roles r \
            where p.pronamespace = 'lessor'::regnamespace and not p.prosecdef \
            and r.rolname like 'lessor\\_%\\_member' and has_function_privilege(r.oid, p.oid, 'execute')";
        assert_eq!(root.query_one(invoker, &[]).await.unwrap().get::<_, Option<&str>>(0), None);
    });
}

#[test]
fn a_member_cannot_act_for_another_host() {
    with_pool(hard(1), async |pool| {
        let admin = pool.first().await;
        let account = add(&admin, 1).await;
        let (member, user, _) = pool.join("member", false, false).await;
        let term = admin.begin_term(LIFE).await.unwrap();
        let claim = admin.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap();
        assert!(matches!(claim, SeatClaim::Claimed { .. }));
        // it knows the number of the term, and even its life
        assert_eq!(member.beat(term, LIFE).await.unwrap(), None);
        assert_eq!(member.claim_seats(term, LIFE, account, 1, 1, false).await.unwrap(), SeatClaim::Over);
        assert_eq!(member.give_back_seats(term, LIFE, account, 1).await.unwrap(), 0);
        assert!(!member.mark_handed_out(term, LIFE, account, None).await.unwrap());
        assert_eq!(member.resume_term(term, LIFE, 3).await.unwrap(), None);
        member.end_term(term, LIFE).await.unwrap();
        let beat = admin.beat(term, LIFE).await.unwrap().unwrap().beat;
        assert!(!member.end_silent_term(term, beat).await.unwrap());
        // pretending to be another does not change who it is
        let raw = pool.raw(&user).await;
        raw.batch_execute(&format!("set role lessor_{}_member", pool.name)).await.unwrap();
        let beats = format!("select * from lessor.beat({}, {})", term.0, LIFE.cast_signed());
        assert_eq!(raw.query(&beats, &[]).await.unwrap().len(), 0);
        assert!(admin.beat(term, LIFE).await.unwrap().is_some());
    });
}

#[test]
fn a_host_without_rights_gets_a_clear_error() {
    use lessor::shared_pool::SharedPoolErrorKind::NotPermitted;
    with_pool(hard(1), async |pool| {
        let (member, _, _) = pool.join("member", false, false).await;
        let account = add(&pool.first().await, 1).await;
        for error in [
            member.remove_account(account).await.unwrap_err(),
            member.set_settings(&hard(2)).await.unwrap_err(),
            member.refresh_token(account).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), NotPermitted, "{error}");
            assert!(error.to_string().contains("lessor pool hosts"), "{error}");
        }
    });
}
