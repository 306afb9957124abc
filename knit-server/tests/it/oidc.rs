//! Logging in by an identity provider: a real one, and one of the tests' own that lies.

mod hostile;

use std::path::Path;
use std::process::Stdio;
use std::sync::Once;
use std::time::Duration;

use knit_link::bus::MemoryBus;
use knit_rpc::access::Role;
use knit_server::config::oidc::Oidc;
use knit_server::http::sessions::Web;
use knit_server::oidc::Provider;
use knit_server_core::oidc::Rule;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::browser::{Browser, Page};
use crate::support::{Home, Server, eventually, project};

const CLIENT_SECRET: &str = "only the two of them know this one";
/// What the provider knows as this server; the scripted browser takes it to where it listens.
const PUBLIC: &str = "https://knit.example";
const CALLBACK: &str = "https://knit.example/login/oidc/callback";

/// `oidc-provider` on Node, which is certified; it ends when this is dropped.
struct Real {
    issuer: String,
    child: Child,
}

impl Real {
    async fn start() -> Self {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc");
        install(Path::new(dir));
        let mut child = Command::new("node")
            .args(["provider.mjs", CLIENT_SECRET, CALLBACK])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await;
        let issuer = line.expect("in time").expect("readable").expect("an issuer");
        // It may say more, and ends when nobody reads it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { issuer, child }
    }
}

/// Has npm install what the lock names, unless `packaging/test` did; one test does it for all.
fn install(dir: &Path) {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if !dir.join("node_modules/.package-lock.json").exists() {
            let mut npm = std::process::Command::new("npm");
            let done = npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(dir).output();
            let done = done.expect("npm: packaging/test installs it");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
    });
}

fn rule(claim: &str, value: &str, role: Role, project: Option<&str>) -> Rule {
    let projects = project.map(|name| [name.parse().expect("a name")].into());
    Rule { claim: claim.to_owned(), value: value.to_owned(), role, projects }
}

/// A server that knows a provider, and the directory that holds the secret.
async fn server(issuer: &str) -> (Server, Home) {
    let home = Home::new();
    let secret = home.dir.path().join("oidc.secret");
    std::fs::write(&secret, format!("{CLIENT_SECRET}\n")).expect("written");
    let settings = Oidc {
        issuer: issuer.to_owned(),
        client_id: "knit".to_owned(),
        client_secret_file: Some(secret),
        redirect_url: CALLBACK.to_owned(),
        scopes: vec!["email".to_owned(), "groups".to_owned()],
        name: "the company".to_owned(),
        session: Duration::from_hours(1),
        rules: vec![
            rule("groups", "knit-admins", Role::Admin, None),
            rule("email", "otto@example.com", Role::Deployer, Some("shop")),
        ],
    };
    let provider = Some(Provider::new(settings).expect("a provider"));
    let web = Web { public: Some(PUBLIC.parse().expect("an address")), provider, ..Web::default() };
    let server = Server::start_web(&home, &MemoryBus::new(), web).await;
    project(&server.app, "shop").await;
    (server, home)
}

/// Logs in at the real provider as somebody, and returns where it sends the browser back to.
async fn at_provider(idp: &mut Browser, url: &str, login: &str) -> String {
    let mut page = idp.get(url).await;
    for _ in 0..20 {
        if page.status == 200 {
            let action = page.text.split("action=\"").nth(1).expect("a form");
            let action = action.split('"').next().expect("its end").to_owned();
            let prompt = page.field("prompt");
            let fields = [("prompt", prompt.as_str()), ("login", login), ("password", "any")];
            page = idp.post(&action, &fields).await;
            continue;
        }
        let next = page.location().to_owned();
        assert!(page.status == 303 && !next.is_empty(), "{page:?}");
        if let Some(back) = next.strip_prefix(PUBLIC) {
            return back.to_owned();
        }
        page = idp.get(&next).await;
    }
    panic!("the provider goes in circles: {page:?}");
}

/// All of it: from the button to the page that goes on.
async fn log_in(browser: &mut Browser, issuer: &str, login: &str) -> Page {
    let begun = browser.get("/login/oidc?next=/v1/whoami").await;
    assert_eq!(begun.status, 303, "{}", begun.text);
    let back = at_provider(&mut Browser::new(issuer), begun.location(), login).await;
    // By the provider's redirect: no page of ours sent this.
    let site = ("sec-fetch-site", "cross-site".to_owned());
    browser.headers.push(site);
    let page = browser.get(&back).await;
    browser.headers.clear();
    page
}

#[tokio::test]
async fn who_the_provider_knows_is_let_in_as_the_rules_say() {
    let provider = Real::start().await;
    let (server, _home) = server(&provider.issuer).await;
    let mut eva = Browser::new(&server.url);
    let form = eva.get("/login").await;
    assert!(form.text.contains("Log in with the company"), "{}", form.text);
    let page = log_in(&mut eva, &provider.issuer, "eva").await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(page.text.contains("0;url=/v1/whoami"), "it goes on from a page of ours");
    let cookies = page.set_cookies();
    let session = cookies.iter().find(|cookie| cookie.starts_with("__Host-knit_session=")).unwrap();
    assert!(session.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=3600; Secure"));
    let whoami: Value = serde_json::from_str(&eva.get("/v1/whoami").await.text).unwrap();
    assert_eq!(whoami["name"], "oidc eva@example.com (eva)");
    assert_eq!((&whoami["role"], &whoami["projects"]), (&Value::from("admin"), &Value::Null));

    let mut otto = Browser::new(&server.url);
    assert_eq!(log_in(&mut otto, &provider.issuer, "otto").await.status, 200);
    let whoami: Value = serde_json::from_str(&otto.get("/v1/whoami").await.text).unwrap();
    assert_eq!((&whoami["role"], &whoami["projects"]), (&"deployer".into(), &vec!["shop"].into()));
    assert_eq!(otto.get("/v1/audit").await.status, 403);

    let mut mallory = Browser::new(&server.url);
    let page = log_in(&mut mallory, &provider.issuer, "mallory").await;
    assert_eq!(page.status, 403);
    assert!(page.text.contains("oidc mallory@example.com (mallory), but no rule"), "{}", page.text);
    assert!(!mallory.cookies.contains_key("__Host-knit_session"));

    let audit = server.api.audit(0).await.unwrap();
    let told: Vec<String> = audit
        .iter()
        .filter(|entry| entry.actor.starts_with("oidc "))
        .map(|entry| format!("{} {} {} {}", entry.status, entry.actor, entry.action, entry.subject))
        .collect();
    let by = format!("a session by {}", provider.issuer);
    assert_eq!(
        told,
        [
            format!("200 oidc eva@example.com (eva) GET /login/oidc/callback {by}"),
            format!("200 oidc otto@example.com (otto) GET /login/oidc/callback {by}"),
            "403 oidc otto@example.com (otto) GET /v1/audit ".to_owned(),
            "403 oidc mallory@example.com (mallory) GET /login/oidc/callback ".to_owned(),
        ]
    );
    server.stop().await;
}

#[tokio::test]
async fn an_answer_counts_once_and_for_the_browser_that_asked() {
    let provider = Real::start().await;
    let (server, _home) = server(&provider.issuer).await;
    let mut eva = Browser::new(&server.url);
    let begun = eva.get("/login/oidc").await;
    let back = at_provider(&mut Browser::new(&provider.issuer), begun.location(), "eva").await;
    let (query, state) = (back.clone(), back.split("state=").nth(1).unwrap());
    assert!(!state.is_empty());

    // Somebody who was made to follow the answer to another's login is not logged in as the other.
    let mut victim = Browser::new(&server.url);
    let page = victim.get(&query).await;
    assert!(page.status == 400 && page.text.contains("begun in another browser"), "{}", page.text);
    victim.get("/login/oidc").await;
    let page = victim.get(&query).await;
    assert!(
        page.status == 400 && page.text.contains("the answer to another login"),
        "{}",
        page.text
    );
    // A code of one login with the state of another.
    let begun = victim.get("/login/oidc").await;
    let own = begun.location().split("state=").nth(1).unwrap().split('&').next().unwrap();
    let code = query.split("code=").nth(1).unwrap().split('&').next().unwrap();
    let page = victim.get(&format!("/login/oidc/callback?code={code}&state={own}")).await;
    assert!(page.status == 401 && page.text.contains("does not stand by"), "{}", page.text);
    assert!(!victim.cookies.contains_key("__Host-knit_session"));
    server.stop().await;

    let (server, _home) = self::server(&provider.issuer).await;
    let mut eva = Browser::new(&server.url);
    let begun = eva.get("/login/oidc").await;
    let back = at_provider(&mut Browser::new(&provider.issuer), begun.location(), "eva").await;
    let secret = eva.cookies["__Host-knit_oidc"].clone();
    assert_eq!(eva.get(&back).await.status, 200);
    let session = eva.cookies["__Host-knit_session"].clone();
    assert_eq!(eva.get(&back).await.status, 400, "the cookie is gone");
    eva.cookies.insert("__Host-knit_oidc".to_owned(), secret);
    assert_eq!(eva.get(&back).await.status, 401, "the code is spent");
    assert_eq!(eva.cookies["__Host-knit_session"], session);
    server.stop().await;
}

#[tokio::test]
async fn tokens_work_on_while_the_provider_is_away() {
    let mut provider = Real::start().await;
    let (server, _home) = server(&provider.issuer).await;
    let mut browser = Browser::new(&server.url);
    let page = browser.get("/login/oidc/callback?error=access_denied&state=x").await;
    assert_eq!(page.status, 400);
    let begun = browser.get("/login/oidc").await;
    let state = begun.location().split("state=").nth(1).unwrap().split('&').next().unwrap();
    let denied = format!(
        "/login/oidc/callback?error=access_denied&error_description=no%3Cb%3E&state={state}"
    );
    let page = browser.get(&denied).await;
    assert!(
        page.status == 403 && page.text.contains("did not let you in: no&lt;b&gt;"),
        "{page:?}"
    );
    provider.child.kill().await.unwrap();
    drop(provider);
    server.stop().await;

    let gone = "http://127.0.0.1:9";
    let (server, _home) = self::server(gone).await;
    let mut browser = Browser::new(&server.url);
    let page = browser.get("/login/oidc").await;
    assert_eq!(page.status, 502);
    assert!(page.text.contains("Logging in with a token works"), "{}", page.text);
    let entered = eventually("a token works", || {
        let mut browser = Browser::new(&server.url);
        let token = server.token.clone();
        async move { Some(browser.log_in(token.expose()).await) }
    })
    .await;
    assert_eq!(entered.status, 303);
    server.stop().await;
}

#[tokio::test]
async fn nobody_queues_up_behind_a_provider_that_is_silent() {
    // It takes connections, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("http://{}", silent.local_addr().unwrap());
    let (server, _home) = self::server(&issuer).await;
    let ask = || async { Browser::new(&server.url).get("/login/oidc").await.status.as_u16() };
    let all = async { tokio::join!(ask(), ask(), ask(), ask(), ask()) };
    // One waits for ten seconds, and the others with it.
    let told = tokio::time::timeout(Duration::from_secs(25), all).await.expect("not one by one");
    assert_eq!(told, (502, 502, 502, 502, 502));
    server.stop().await;
}
