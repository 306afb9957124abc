//! Browsers: a token becomes a cookie, and the cookie is worth no more than the token, to nobody
//! but the pages that it was given to.

use knit_link::bus::MemoryBus;
use knit_rpc::access::{NewToken, Role};
use knit_server::http::sessions::Web;
use reqwest::Method;
use serde_json::Value;
use sqlx::Connection as _;

use crate::support::browser::{Browser, Page};
use crate::support::{Home, Server, token};

const COOKIE: &str = "knit_session";

/// A server, and a browser that a deployer is logged in with.
async fn logged_in() -> (Server, Browser) {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let deployer = token(&server.app, "ci", Role::Deployer, None).await;
    let mut browser = Browser::new(&server.url);
    let entered = browser.log_in(deployer.expose()).await;
    assert_eq!((entered.status.as_u16(), entered.location()), (303, "/"), "{entered:?}");
    (server, browser)
}

fn code(page: &Page) -> (u16, String) {
    let told: Value = serde_json::from_str(&page.text).unwrap_or_default();
    (page.status.as_u16(), told["code"].as_str().unwrap_or_default().to_owned())
}

fn is_page(page: &Page) -> bool {
    page.headers["content-type"].as_bytes().starts_with(b"text/html")
}

#[tokio::test]
async fn a_token_opens_a_session_that_is_worth_what_the_token_is() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let viewer = token(&server.app, "<b>looker</b>", Role::Viewer, Some(&["shop"])).await;
    let mut browser = Browser::new(&server.url);
    let first = browser.get("/").await;
    assert_eq!((first.status.as_u16(), first.location()), (303, "/login"));
    let form = browser.get("/login?next=/v1/whoami").await;
    assert!(form.status == 200 && form.text.contains("<label for=\"token\">Token</label>"));
    let cookie = form.set_cookies().remove(0);
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=1800"), "{cookie}");
    let fields =
        [("token", viewer.expose()), ("csrf", &form.field("csrf")), ("next", &form.field("next"))];
    let entered = browser.post("/login", &fields).await;
    assert_eq!((entered.status.as_u16(), entered.location()), (303, "/v1/whoami"));
    let cookie = entered.set_cookies().remove(0);
    assert!(cookie.starts_with("knit_session="), "{cookie}");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=86400"), "{cookie}");
    assert!(!browser.cookies.contains_key("knit_form"), "the form is done with");

    let whoami: Value = serde_json::from_str(&browser.get("/v1/whoami").await.text).unwrap();
    assert_eq!(whoami["role"], "viewer");
    let id = viewer.id();
    assert_eq!(whoami["name"], format!("token <b>looker</b> ({id}) in a browser"));
    let home = browser.get("/").await;
    assert!(home.text.contains("token &lt;b&gt;looker&lt;/b&gt;"), "{}", home.text);
    assert!(home.text.contains("viewer of project shop") && !home.text.contains("drain"));
    assert_eq!(browser.get("/login?next=/a").await.location(), "/a", "who is in need not log in");
    assert_eq!(code(&browser.get("/v1/audit").await), (403, "denied".to_owned()));
    assert_eq!(code(&browser.get("/v1/deployments?project=other").await).0, 403);
    server.stop().await;
}

#[tokio::test]
async fn a_cookie_alone_changes_nothing() {
    let (server, mut browser) = logged_in().await;
    let csrf = browser.get("/").await.field("csrf");
    let change = |browser: &Browser, headers: &[(&'static str, &str)]| {
        let body = "{\"name\":\"web\",\"image\":\"a:1\",\"replicas\":0}";
        let request = browser.request(Method::POST, "/v1/deployments").body(body);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let csrf_of_another = {
        let mut other = Browser::new(&server.url);
        other.log_in(server.token.expose()).await;
        other.get("/").await.field("csrf")
    };
    let own = server.url.clone();
    for headers in [
        [].as_slice(),
        &[("x-csrf-token", "")],
        &[("x-csrf-token", &csrf_of_another)],
        &[("x-csrf-token", &csrf), ("origin", "http://evil.example")],
        &[("x-csrf-token", &csrf), ("origin", "null")],
        &[("x-csrf-token", &csrf), ("sec-fetch-site", "cross-site")],
        &[("x-csrf-token", &csrf), ("sec-fetch-site", "same-site"), ("origin", &own)],
    ] {
        let request = change(&browser, headers);
        let refused = browser.send(request).await;
        assert_eq!(code(&refused), (403, "csrf".to_owned()), "{headers:?}");
    }
    assert!(server.api.deployments(None).await.unwrap().is_empty());
    for headers in [
        [("x-csrf-token", csrf.as_str()), ("origin", own.as_str())],
        [("x-csrf-token", &csrf), ("sec-fetch-site", "same-origin")],
    ] {
        let request = change(&browser, &headers);
        assert_eq!(browser.send(request).await.status, 202, "{headers:?}");
    }
    // A token in its header needs none of this, cookie or not.
    let request = change(&browser, &[("origin", "http://evil.example")]);
    let by_token = browser.send(request.bearer_auth(server.token.expose())).await;
    assert_eq!(by_token.status, 202);
    let audit = server.api.audit(0).await.unwrap();
    let denied = audit.iter().filter(|entry| entry.status == 403);
    assert_eq!(denied.filter(|entry| entry.actor.ends_with(") in a browser")).count(), 7);
    server.stop().await;
}

#[tokio::test]
async fn nobody_is_logged_in_by_somebody_elses_form() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let mut thief = Browser::new(&server.url);
    let csrf_of_thief = thief.get("/login").await.field("csrf");
    let token = server.token.expose();
    let mut victim = Browser::new(&server.url);
    let without_cookie = victim.post("/login", &[("token", token), ("csrf", &csrf_of_thief)]).await;
    let own = victim.get("/login").await.field("csrf");
    let with_another = victim.post("/login", &[("token", token), ("csrf", &csrf_of_thief)]).await;
    let without_field = victim.post("/login", &[("token", token)]).await;
    victim.headers = vec![("origin", "http://evil.example".to_owned())];
    let from_elsewhere = victim.post("/login", &[("token", token), ("csrf", &own)]).await;
    victim.headers = vec![("sec-fetch-site", "cross-site".to_owned())];
    let by_its_word = victim.post("/login", &[("token", token), ("csrf", &own)]).await;
    for page in [without_cookie, with_another, without_field, from_elsewhere, by_its_word] {
        assert!(page.status == 403 && is_page(&page), "{page:?}");
        assert!(page.text.contains("role=\"alert\""), "it says why: {}", page.text);
        assert!(!page.text.contains(token), "and does not repeat the token");
    }
    assert!(!victim.cookies.contains_key(COOKIE));
    victim.headers = vec![("origin", server.url.clone())];
    assert_eq!(victim.post("/login", &[("token", token), ("csrf", &own)]).await.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn logging_in_makes_a_new_session_and_ends_the_one_before() {
    let (server, mut browser) = logged_in().await;
    let before = browser.cookies[COOKIE].clone();
    // A form that was open beside it.
    let mut second = Browser::new(&server.url);
    let form = second.get("/login").await;
    second.cookies.insert(COOKIE.to_owned(), before.clone());
    let fields = [("token", server.token.expose()), ("csrf", &form.field("csrf"))];
    assert_eq!(second.post("/login", &fields).await.status, 303);
    assert_ne!(second.cookies[COOKIE], before);
    assert_eq!(code(&browser.get("/v1/whoami").await), (401, "session-over".to_owned()));

    // An id that somebody thought out beforehand becomes nobody's session.
    let mut fixed = Browser::new(&server.url);
    let thought_out = "ab".repeat(32);
    fixed.cookies.insert(COOKIE.to_owned(), thought_out.clone());
    assert_eq!(fixed.log_in(server.token.expose()).await.status, 303);
    assert_ne!(fixed.cookies[COOKIE], thought_out);
    fixed.cookies.insert(COOKIE.to_owned(), thought_out);
    assert_eq!(fixed.get("/v1/whoami").await.status, 401);
    server.stop().await;
}

#[tokio::test]
async fn wrong_tokens_are_counted_at_the_form_as_everywhere() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    let mut browser = Browser::new(&server.url);
    let form = browser.get("/login").await.field("csrf");
    let unknown = format!("knit_00000000_{}", "0".repeat(64));
    let mut last = None;
    for number in 0..12 {
        let token = if number % 2 == 0 { &unknown } else { "rubbish" };
        let page = browser.post("/login", &[("token", token), ("csrf", &form)]).await;
        assert!(is_page(&page) && !browser.cookies.contains_key(COOKIE), "{page:?}");
        last = Some(page);
    }
    let last = last.unwrap();
    assert_eq!(last.status, 429);
    assert!(last.headers.contains_key("retry-after") && last.text.contains("Try again in"));
    let good = browser.post("/login", &[("token", server.token.expose()), ("csrf", &form)]).await;
    assert_eq!(good.status, 429, "a good one waits as well");
    assert_eq!(server.api.nodes().await.unwrap_err().status(), Some(429), "and so does the API");
    server.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_with_logging_out() {
    let (server, mut browser) = logged_in().await;
    let stolen = browser.cookies[COOKIE].clone();
    let csrf = browser.get("/").await.field("csrf");
    let refused = browser.post("/logout", &[("csrf", "0")]).await;
    assert!(refused.status == 403 && refused.text.contains("You are still logged in"));
    browser.headers = vec![("sec-fetch-site", "cross-site".to_owned())];
    assert_eq!(browser.post("/logout", &[("csrf", &csrf)]).await.status, 403);
    browser.headers.clear();
    let out = browser.post("/logout", &[("csrf", &csrf)]).await;
    assert_eq!((out.status.as_u16(), out.location()), (303, "/login"));
    assert!(!browser.cookies.contains_key(COOKIE));
    browser.cookies.insert(COOKIE.to_owned(), stolen);
    assert_eq!(code(&browser.get("/v1/whoami").await), (401, "session-over".to_owned()));
    assert_eq!(browser.get("/").await.location(), "/login");

    let brief = |ttl| NewToken {
        name: "brief".to_owned(),
        role: Role::Viewer,
        projects: None,
        ttl: Some(ttl),
    };
    let revoked = server.api.create_token(&brief(60)).await.unwrap();
    let mut one = Browser::new(&server.url);
    one.log_in(&revoked.token).await;
    assert_eq!(one.get("/v1/whoami").await.status, 200);
    server.api.revoke_token(revoked.view.id.as_str()).await.unwrap();
    assert_eq!(one.get("/v1/whoami").await.status, 401);
    let expiring = server.api.create_token(&brief(1)).await.unwrap();
    let mut two = Browser::new(&server.url);
    two.log_in(&expiring.token).await;
    crate::support::eventually("its time is over", || {
        let asked = two.request(Method::GET, "/v1/whoami");
        async move { (asked.send().await.ok()?.status() == 401).then_some(()) }
    })
    .await;
    let done: Vec<String> =
        server.api.audit(0).await.unwrap().into_iter().map(|e| e.action).collect();
    let of = |action: &str| done.iter().filter(|done| *done == action).count();
    assert_eq!((of("POST /login"), of("POST /logout")), (3, 1), "{done:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_session_outlives_the_server_but_not_its_time() {
    let home = Home::new();
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    let token = server.token.clone();
    let (mut used, mut idle, mut old) =
        (Browser::new(&server.url), Browser::new(&server.url), Browser::new(&server.url));
    for browser in [&mut used, &mut idle, &mut old] {
        assert_eq!(browser.log_in(token.expose()).await.status, 303);
    }
    server.stop().await;
    let bytes = std::fs::read(home.dir.path().join("knit.db")).unwrap();
    let is_in = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!is_in(&used.cookies[COOKIE]), "the database holds no session's secret");

    let url = format!("sqlite://{}", home.dir.path().join("knit.db").display());
    let mut raw = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let (hour, digest) = (3_600_000_i64, |browser: &Browser| {
        use sha2::Digest as _;
        hex::encode(sha2::Sha256::digest(browser.cookies[COOKIE].as_bytes()))
    });
    for (change, browser) in [
        (format!("used_at = used_at - {}", 2 * hour), &idle),
        (format!("expires_at = expires_at - {}", 24 * hour), &old),
    ] {
        let update = format!("UPDATE sessions SET {change} WHERE digest = '{}'", digest(browser));
        let done = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&mut raw).await.unwrap();
        assert_eq!(done.rows_affected(), 1);
    }
    raw.close().await.unwrap();
    let server = Server::start_on_disk(&home, &MemoryBus::new()).await;
    for (browser, status) in [(&used, 200), (&idle, 401), (&old, 401)] {
        let mut again = Browser::new(&server.url);
        again.cookies = browser.cookies.clone();
        assert_eq!(again.get("/v1/whoami").await.status, status);
    }
    server.stop().await;
}

#[tokio::test]
async fn one_goes_on_to_this_server_alone() {
    let server = Server::start(&Home::new(), &MemoryBus::new()).await;
    for next in
        ["//evil.example", "https://evil.example/", "/\\evil.example", "/login", "javascript:x"]
    {
        let mut browser = Browser::new(&server.url);
        let form = browser.get(&format!("/login?next={next}")).await;
        assert_eq!(form.field("next"), "/", "{next}");
        let fields =
            [("token", server.token.expose()), ("csrf", &form.field("csrf")), ("next", next)];
        assert_eq!(browser.post("/login", &fields).await.location(), "/", "{next}");
        let asked = browser.get(&format!("/login?next={next}")).await;
        assert_eq!(asked.location(), "/", "{next}");
    }
    server.stop().await;
}

#[tokio::test]
async fn browsers_are_told_to_trust_nothing_and_only_pages_are_pages() {
    let (server, mut browser) = logged_in().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/style.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
        ("/v1/nodes", "application/json"),
        ("/v1/nodes/none", "application/json"),
        ("/nowhere", "application/json"),
        ("/login/", "application/json"),
        ("/v1/login", "application/json"),
    ] {
        let page = browser.get(path).await;
        let header = |name: &str| page.headers[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind), "{path}: {page:?}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(header("cache-control"), "no-store", "{path}");
    }
    // A link from elsewhere comes without the cookie, and is asked again from a page of ours.
    let mut linked = Browser::new(&server.url);
    linked.headers = vec![("sec-fetch-site", "cross-site".to_owned())];
    let page = linked.get("/").await;
    assert!(page.status == 200 && page.text.contains("content=\"0;url=/\""), "{}", page.text);
    server.stop().await;
}

#[tokio::test]
async fn behind_tls_cookies_go_by_tls_alone() {
    let public = Some("https://knit.example".parse().unwrap());
    let web = Web { public, ..Web::default() };
    let server = Server::start_web(&Home::new(), &MemoryBus::new(), web).await;
    let mut browser = Browser::new(&server.url);
    browser.headers = vec![("origin", "https://knit.example".to_owned())];
    let entered = browser.log_in(server.token.expose()).await;
    assert_eq!(entered.status, 303);
    let cookies = entered.set_cookies();
    let is_guarded =
        |cookie: &String| cookie.starts_with("__Host-") && cookie.ends_with("; Secure");
    assert!(cookies.len() == 2 && cookies.iter().all(is_guarded), "{cookies:?}");
    assert_eq!(browser.get("/v1/whoami").await.status, 200);
    let secret = browser.cookies.remove("__Host-knit_session").unwrap();
    browser.cookies.insert(COOKIE.to_owned(), secret);
    assert_eq!(browser.get("/v1/whoami").await.status, 401, "under its plain name it is nothing");
    server.stop().await;
}
