//! One replica over the memory store, for the tests of routes: everything that serves is real.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix_web::body::{BoxBody, EitherBody};
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::http::{Method, StatusCode};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, Error, middleware, web};
use serde_json::{Value, json};

use super::Services;
use super::origin::Origins;
use crate::bus::{Bus, NoBus};
use crate::cache::{CacheLimits, PermissionCache};
use crate::domain::operation::{NewRole, NewTenant, NewUser};
use crate::domain::permission::{ADMIN, CHECK, OPERATOR};
use crate::domain::records::{Status, UserKind};
use crate::domain::{Actor, Applied, Clock, Floors, Operation, Random, TenantName, Unit};
use crate::feed::{Controls, Feed, FeedSettings, FeedTask, Inbox, Peers, Propagation, RollCall, WaitError};
use crate::gate::{Gate, OnStale};
use crate::hub::{Hub, Limits};
use crate::issuer::Issuers;
use crate::runtime::{Lifecycle, SystemClock, SystemRandom};
use crate::socket::{self, Deadlines, Sockets};
use crate::store::memory::MemoryStore;
use crate::store::{Store, StoreOptions};
use crate::token::{
    Algorithm, GuessLimits, KeySet, Mint, PasswordSettings, Passwords, Permissions, SessionParts, SessionSettings,
    Sessions, TokenPermissions, TokenSettings, Vault, Verifier,
};

pub(crate) const ISSUER: &str = "https://id.example";
pub(crate) const PAGE: &str = "https://app.example";
const TTL: Duration = Duration::from_mins(15);

/// The replica. In `default`: `root` is operator, `ada` administers, `kim` may check, `ben` reads invoices through the
/// role `viewer`. In `acme`: `zoe` administers.
pub(crate) struct House {
    pub(crate) services: web::Data<Services>,
    sessions: Arc<Sessions>,
    verifier: Arc<Verifier>,
    sockets: Arc<Sockets>,
    lifecycle: Lifecycle,
}

impl Drop for House {
    fn drop(&mut self) {
        self.lifecycle.stop();
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Holds it to be this problem.
    pub(crate) fn problem(&self, status: u16, slug: &str) -> &Self {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["type"], format!("/problems/{slug}"), "{self:?}");
        assert_eq!(self.body["status"], status);
        self
    }

    /// Holds it to have gone well.
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The pointers of its faults.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().filter_map(|fault| fault["pointer"].as_str()).collect()
    }
}

type Body = EitherBody<BoxBody, BoxBody>;

impl House {
    pub(crate) async fn new() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let lifecycle = Lifecycle::new();
        let (inbox, outlet) = Inbox::new(Arc::clone(&clock));
        let options = StoreOptions {
            id_rest: Duration::from_hours(720),
            refresh_grace: Duration::from_secs(10),
            deadline: Duration::from_secs(5),
            listener: Arc::new(inbox),
        };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(options, Arc::clone(&clock), Arc::clone(&random)));
        let applied = Arc::new(Applied::new(store.keys().await.unwrap().version.epoch));
        let floors = Arc::new(Floors::new(7, 100_000));
        let cache = Arc::new(PermissionCache::new(
            Arc::clone(&store),
            Arc::clone(&floors),
            Arc::clone(&applied),
            Arc::clone(&clock),
            CacheLimits::default(),
        ));
        let vault = Arc::new(Vault::plain());
        let (store_, clock_, random_) = (Arc::clone(&store), Arc::clone(&clock), Arc::clone(&random));
        let keys = KeySet::open(store_, Arc::clone(&vault), Algorithm::default(), TTL, clock_, random_).await;
        let keys = Arc::new(keys.unwrap());
        let hub = Hub::new(Arc::clone(&floors), Arc::clone(&clock), Limits::default());
        let controls = Arc::new(Controls::new(Arc::clone(&store), Arc::clone(&keys), Arc::clone(&hub)));
        let feed = Feed::new(Arc::clone(&applied), Arc::clone(&clock));
        let peers = Arc::new(Peers::default());
        let propagation = Arc::new(Propagation::new(
            "r1".into(),
            feed.clone(),
            Arc::clone(&hub),
            Arc::clone(&peers),
            Arc::clone(&store),
            Arc::clone(&clock),
            Duration::from_secs(1),
        ));
        let settings = TokenSettings {
            issuer: ISSUER.into(),
            audience: ISSUER.into(),
            ttl: TTL,
            permissions: TokenPermissions::default(),
        };
        let bus: Arc<dyn Bus> = Arc::new(NoBus);
        let roll_call =
            RollCall::new("r1".into(), Arc::clone(&hub), Arc::clone(&store), Arc::clone(&bus), Arc::clone(&random));
        let verifier = Arc::new(Verifier::new(
            Arc::clone(&keys),
            Arc::clone(&floors),
            Arc::clone(&applied),
            Arc::clone(&clock),
            &settings,
        ));
        let issuers = Issuers::new(Vec::new(), Arc::clone(&store), Arc::clone(&clock)).unwrap();
        let gate = Arc::new(Gate::new(
            Arc::clone(&verifier),
            Arc::new(issuers),
            Arc::clone(&floors),
            Arc::clone(&cache),
            feed.clone(),
            Arc::clone(&controls),
            Arc::clone(&clock),
            // Tests share two cores: a slow one must not be taken for an outage.
            Duration::from_secs(20),
            OnStale::Deny,
        ));
        let weak = PasswordSettings { memory_kib: 8, iterations: 1, ..PasswordSettings::default() };
        let passwords = Arc::new(Passwords::new(weak, Arc::clone(&random)).unwrap());
        let parts = SessionParts {
            store: Arc::clone(&store),
            permissions: Arc::clone(&gate) as Arc<dyn Permissions>,
            applied: Arc::clone(&applied),
            mint: Arc::new(Mint::new(Arc::clone(&keys), settings, Arc::clone(&clock), Arc::clone(&random))),
            passwords: Arc::clone(&passwords),
            clock: Arc::clone(&clock),
            random: Arc::clone(&random),
        };
        let settings = SessionSettings {
            refresh_ttl: Duration::from_hours(720),
            idle_ttl: Duration::from_hours(720),
            refresh_budget: 2000,
            guesses: GuessLimits::default(),
        };
        let sessions = Arc::new(Sessions::open(parts, &vault, settings).await.unwrap());
        let sockets = Arc::new(Sockets::new(
            Arc::clone(&gate) as Arc<dyn socket::Authority>,
            Arc::clone(&hub),
            Arc::clone(&floors),
            Arc::clone(&applied),
            Arc::clone(&clock),
            Arc::clone(&random),
            socket::Settings {
                replica: "r1".into(),
                heartbeat: Duration::from_secs(25),
                reconnect_within: Duration::from_secs(1),
            },
            TTL,
            Deadlines::default(),
        ));
        let task = FeedTask {
            settings: FeedSettings { poll_interval: Duration::from_millis(20), remember: TTL },
            feed: feed.clone(),
            store: Arc::clone(&store),
            floors,
            cache: Arc::clone(&cache),
            hub: Arc::clone(&hub),
            controls,
            peers: Arc::clone(&peers),
            roll_call: Arc::clone(&roll_call),
            propagation: Arc::clone(&propagation),
            outlet,
            random,
            heard: NoBus::hearing(),
        };
        lifecycle.spawn("feed", task.run(lifecycle.token()));
        feed.confirmed().await;
        let started_at = clock.now();
        let services = web::Data::new(Services {
            replica: "r1".into(),
            issuer: ISSUER.into(),
            store,
            gate,
            feed,
            hub,
            bus,
            cache,
            peers,
            roll_call,
            propagation,
            keys,
            passwords,
            clock,
            metrics: crate::telemetry::metrics(),
            draining: Arc::new(AtomicBool::new(false)),
            started_at,
            resident_at_start: 0,
            demo: None,
        });
        let house = Self { services, sessions, verifier, sockets, lifecycle };
        house.furnish().await;
        house
    }

    async fn furnish(&self) {
        let (first, acme) = (TenantName::first(), "acme".parse::<TenantName>().unwrap());
        let tenant = NewTenant { name: acme.clone(), description: String::new(), status: Status::Active };
        let viewer = NewRole {
            name: "viewer".parse().unwrap(),
            description: String::new(),
            permissions: vec!["invoices:read".parse().unwrap()],
            includes: vec![],
        };
        let mut operations =
            vec![Operation::CreateTenant(tenant), Operation::CreateRole { tenant: first.clone(), role: viewer }];
        for (tenant, id, grants) in [
            (&first, "root", &[OPERATOR][..]),
            (&first, "ada", &[ADMIN]),
            (&first, "kim", &[CHECK]),
            (&first, "ben", &[]),
            (&acme, "zoe", &[ADMIN]),
        ] {
            let user = NewUser {
                id: id.parse().unwrap(),
                name: id.to_owned(),
                email: Some(format!("{id}@{tenant}.example")),
                kind: UserKind::Person,
                password: Some(self.services.passwords.hash(id.to_owned()).await.unwrap()),
                status: Status::Active,
                identities: vec![],
            };
            let user_id = user.id.clone();
            operations.push(Operation::CreateUser { tenant: tenant.clone(), user });
            operations.extend(grants.iter().map(|grant| Operation::GrantPermission {
                tenant: tenant.clone(),
                user: user_id.clone(),
                permission: grant.parse().unwrap(),
                expires_at: None,
            }));
        }
        let (user, role) = ("ben".parse().unwrap(), "viewer".parse().unwrap());
        operations.push(Operation::GrantRole { tenant: first, user, role, expires_at: None });
        let unit = Unit { actor: Actor::System("test"), operations };
        let written = self.services.store.write(unit).await.unwrap();
        let reached: Result<(), WaitError> =
            self.services.feed.wait_for(written.version, Duration::from_secs(10)).await;
        reached.unwrap();
    }

    /// All that is served, as a process serves it.
    pub(crate) fn app(
        &self,
    ) -> App<
        impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<Body>, Error = Error, InitError = ()>
        + use<>,
    > {
        App::new()
            .app_data(self.services.clone())
            .app_data(web::Data::new(Origins::new(ISSUER, [PAGE])))
            .app_data(web::Data::from(Arc::clone(&self.services.gate)))
            .app_data(web::Data::new(self.services.feed.clone()))
            .app_data(web::Data::from(Arc::clone(&self.sockets)))
            .app_data(web::Data::from(Arc::clone(&self.services.keys)))
            .app_data(web::Data::from(Arc::clone(&self.verifier)))
            .app_data(web::Data::from(Arc::clone(&self.sessions)))
            .wrap(middleware::from_fn(super::edge::around))
            .configure(super::configure)
    }

    /// The answer, whose body may still be on its way.
    pub(crate) async fn call(&self, request: TestRequest) -> ServiceResponse<Body> {
        let peer = "192.0.2.1:4711".parse().unwrap();
        let app = init_service(self.app()).await;
        call_service(&app, request.peer_addr(peer).to_request()).await
    }

    pub(crate) async fn ask(&self, request: TestRequest) -> Answer {
        let answer = self.call(request).await;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = read_body(answer).await;
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or_else(|_| text()) };
        Answer { status, headers, body }
    }

    /// Signs in with the password, which is the id; answers the access token.
    pub(crate) async fn sign_in(&self, user: &str) -> String {
        let tenant = if user == "zoe" { "acme" } else { "default" };
        let body = json!({ "username": user, "password": user, "tenant": tenant });
        let answer = self.ask(TestRequest::post().uri("/v1/login").set_json(body)).await.is(200);
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    /// A client that is signed in.
    pub(crate) async fn client(&self, user: &str) -> Client<'_> {
        Client { house: self, token: self.sign_in(user).await }
    }
}

/// Somebody with a token.
pub(crate) struct Client<'a> {
    pub(crate) house: &'a House,
    pub(crate) token: String,
}

impl Client<'_> {
    pub(crate) fn request(&self, method: Method, path: &str) -> TestRequest {
        TestRequest::with_uri(path).method(method).insert_header(("Authorization", format!("Bearer {}", self.token)))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.house.ask(self.request(Method::GET, path)).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Value) -> Answer {
        self.house.ask(self.request(method, path).set_json(body)).await
    }

    pub(crate) async fn put(&self, path: &str) -> Answer {
        self.house.ask(self.request(Method::PUT, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.house.ask(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, body).await
    }
}
