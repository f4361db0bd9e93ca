use proptest::prelude::*;

use super::*;
use crate::domain::Seq;
use crate::hub::Lock;
use crate::protocol::socket::Reason;

const HEARTBEAT: Duration = Duration::from_secs(25);
const LIFE: u64 = 900;

fn stamp(seq: u64) -> Stamp {
    Stamp::new(1, Seq::new(seq).unwrap())
}

fn version(seq: u64) -> Version {
    Version { epoch: "abcd2345".parse().unwrap(), seq: Seq::new(seq).unwrap() }
}

fn identity(seq: u64) -> Identity {
    Identity {
        tenant: "acme".parse().unwrap(),
        user: "ben".parse().unwrap(),
        session: Some(SessionId::from_random([1; 16])),
        stamp: stamp(seq),
        version: version(seq),
        thin: false,
        issued_at: Timestamp::from_millis(0),
        expires_at: Timestamp::from_millis(i64::try_from(LIFE * 1000).unwrap()),
        cut: false,
    }
}

fn notice(seq: u64, reason: Reason, within_s: u64) -> Notice {
    let refresh_within = Duration::from_secs(within_s);
    Notice { stamp: stamp(seq), reason, refresh_within, at: Timestamp::default() }
}

fn mail(notice: Notice) -> Input<'static> {
    Input::Mail(Mail { notice: Some(notice), ..Mail::default() })
}

/// A connection with a clock of its own, which shows what is said in few words.
struct Client {
    state: State,
    at: Duration,
    applied: u64,
}

impl Client {
    fn new() -> Self {
        let settings =
            Settings { replica: "r1".into(), heartbeat: HEARTBEAT, reconnect_within: Duration::from_secs(3) };
        Self { state: State::new(Arc::new(settings), Boottime::default()), at: Duration::ZERO, applied: 10 }
    }

    fn live(identity: Identity) -> Self {
        let mut client = Self::new();
        client.step(Input::Text(r#"{"type":"hello","token":"t"}"#));
        client.step(Input::Identified(Ok(identity)));
        assert_eq!(client.step(Input::Registered(Ok((7, Standing::Fresh)))), ["welcome 10", "settled"]);
        client
    }

    fn act(&mut self, input: Input<'_>) -> Vec<Action> {
        let wall = Timestamp::default().plus(self.at);
        let now = Now { wall, boot: Boottime(self.at), applied: version(self.applied) };
        let mut out = Vec::new();
        self.state.step(now, input, &mut out);
        out
    }

    fn step(&mut self, input: Input<'_>) -> Vec<String> {
        self.act(input).into_iter().map(brief).collect()
    }

    /// Lets time pass, with a tick whenever one is wanted; tells when and what. Heartbeats are left out.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        let until = self.at + Duration::from_secs(seconds);
        let mut said = Vec::new();
        while let Some(deadline) = self.state.deadline().filter(|deadline| deadline.0 <= until) {
            assert!(deadline.0 >= self.at, "a tick wanted in the past was not answered");
            self.at = deadline.0;
            said.extend(self.step(Input::Tick).into_iter().map(|one| format!("{}s {one}", self.at.as_secs())));
        }
        self.at = until;
        said.retain(|one| !one.contains("heartbeat"));
        said
    }

    fn refresh(&mut self, identity: Identity, standing: Standing) -> Vec<String> {
        assert_eq!(self.step(Input::Text(r#"{"type":"refresh","token":"t"}"#)), ["identify"]);
        assert_eq!(self.step(Input::Identified(Ok(identity))), ["register"]);
        self.step(Input::Registered(Ok((7, standing))))
    }
}

fn brief(action: Action) -> String {
    match action {
        Action::Identify(_) => "identify".into(),
        Action::Register(_) => "register".into(),
        Action::Rebase(_) => "rebase".into(),
        Action::Settled(_) => "settled".into(),
        Action::Tell(notice) => {
            format!("told {} {:?} {}", notice.stamp.seq(), notice.reason, notice.refresh_within.as_secs())
        }
        Action::Close(code) => format!("close {}", code.code()),
        Action::Send(message) => match message {
            ServerMessage::Welcome { pv, .. } => format!("welcome {}", pv.seq),
            ServerMessage::Refreshed { pv } => format!("refreshed {}", pv.seq),
            ServerMessage::Heartbeat { pv } => format!("heartbeat {}", pv.seq),
            ServerMessage::SessionRevoked { reason } => format!("revoked {}", reason.as_str()),
            ServerMessage::TokenExpiring { expires_in_ms } => format!("expiring {expires_in_ms}"),
            ServerMessage::Locked { retry_after_s } => format!("locked {retry_after_s}"),
            ServerMessage::Unlocked { within_ms } => format!("unlocked {within_ms}"),
            ServerMessage::Draining { reconnect_within_ms } => format!("draining {reconnect_within_ms}"),
            ServerMessage::Error { code, .. } => format!("error {code}"),
            ServerMessage::PermissionsChanged { .. } => unreachable!("told as an action of its own"),
        },
    }
}

#[test]
fn who_says_nothing_is_closed_after_five_seconds() {
    let mut client = Client::new();
    assert_eq!(client.step(Input::Text(r#"{"type":"dance"}"#)), [""; 0]);
    assert_eq!(client.pass(4), [""; 0]);
    assert_eq!(client.pass(9), ["5s close 4408"]);
}

#[test]
fn hello_is_answered_by_welcome_and_what_was_missed() {
    let mut client = Client::new();
    assert_eq!(client.step(Input::Text(r#"{"type":"hello","token":"t"}"#)), ["identify"]);
    assert_eq!(client.step(Input::Text(r#"{"type":"hello","token":"u"}"#)), [""; 0], "one at a time");
    assert_eq!(client.step(Input::Identified(Ok(identity(5)))), ["register"]);
    assert_eq!(client.step(Input::Registered(Ok((7, Standing::Stale(stamp(9)))))), ["welcome 10", "told 9 User 0"]);
    assert_eq!(client.pass(60), ["30s close 4401"]);
}

#[test]
fn a_connection_ends_for_each_reason_with_its_code() {
    let over = Mail { over: Some(Effect::Suspended), notice: Some(notice(11, Reason::User, 0)), ..Mail::default() };
    for (input, said) in [
        (Input::Binary, vec!["close 4400"]),
        (Input::Violation, vec!["close 1002"]),
        (Input::NotUtf8, vec!["close 1007"]),
        (Input::Flood, vec!["close 1008"]),
        (Input::Text("nonsense"), vec!["close 4400"]),
        (Input::Text(r#"{"type":"refresh"}"#), vec!["close 4400"]),
        (Input::TooLarge, vec!["close 4413"]),
        (Input::Stuck, vec!["close 1012"]),
        (Input::Gone, vec![]),
        (Input::Drain, vec!["draining 3000", "close 1012"]),
        (Input::Mail(over), vec!["revoked suspended", "close 4403"]),
        (Input::Mail(Mail { displaced: true, ..Mail::default() }), vec!["close 4429"]),
        (Input::Identified(Err(Refusal::Token)), vec!["close 4401"]),
        (Input::Identified(Err(Refusal::Ended)), vec!["revoked signed_out", "close 4403"]),
        (Input::Registered(Err(Unregistered::Unknown)), vec!["close 4401"]),
        (Input::Registered(Ok((7, Standing::Ended))), vec!["revoked signed_out", "close 4403"]),
        (Input::Registered(Err(Unregistered::Full(Full::Tenant))), vec!["error too_many_connections", "close 1012"]),
    ] {
        let mut client = Client::live(identity(10));
        let name = format!("{input:?}");
        assert_eq!(client.step(input), said, "{name}");
        assert!(client.state.is_closing(), "{name}");
        assert_eq!(client.pass(10_000), [""; 0], "{name}");
        assert_eq!(client.step(Input::Text(r#"{"type":"ping"}"#)), [""; 0], "{name}");
    }
}

#[test]
fn before_hello_a_connection_ends_too() {
    for (input, said) in [
        (Input::Binary, vec!["close 4400"]),
        (Input::Text("{}"), vec!["close 4400"]),
        (Input::Text(r#"{"type":"refresh","token":"t"}"#), vec!["close 4400"]),
        (Input::TooLarge, vec!["close 4413"]),
        (Input::Drain, vec!["draining 3000", "close 1012"]),
        (Input::Identified(Err(Refusal::Token)), vec!["close 4401"]),
        (Input::Identified(Err(Refusal::Ended)), vec!["revoked signed_out", "close 4403"]),
        (Input::Identified(Err(Refusal::Unavailable)), vec!["close 1012"]),
        (Input::Registered(Err(Unregistered::Unavailable)), vec!["close 1012"]),
    ] {
        let mut client = Client::new();
        let name = format!("{input:?}");
        assert_eq!(client.step(input), said, "{name}");
        assert!(client.state.is_closing(), "{name}");
    }
}

#[test]
fn who_was_told_and_does_not_refresh_is_closed_thirty_seconds_after_his_time() {
    let mut client = Client::live(identity(10));
    assert_eq!(client.step(mail(notice(12, Reason::Role, 20))), ["told 12 Role 20"]);
    client.pass(10);
    assert_eq!(client.step(mail(notice(13, Reason::Everyone, 60))), ["told 13 Everyone 60"]);
    assert_eq!(client.pass(100), ["50s close 4401"], "a later one does not postpone it");
}

#[test]
fn a_fresh_token_settles_what_was_told() {
    let mut client = Client::live(identity(10));
    client.step(mail(notice(12, Reason::User, 0)));
    client.applied = 12;
    client.pass(10);
    assert_eq!(client.refresh(identity(12), Standing::Fresh), ["refreshed 12", "settled"]);
    assert_eq!(client.step(mail(notice(12, Reason::Role, 0))), [""; 0], "its token has reached it");
    assert_eq!(client.pass(500), [""; 0]);
    client.applied = 11;
    assert_eq!(client.refresh(identity(20), Standing::Fresh)[0], "refreshed 20", "a token from a replica ahead");
}

#[test]
fn a_stale_token_is_answered_by_permissions_changed_again() {
    let mut client = Client::live(identity(10));
    client.step(mail(notice(14, Reason::User, 0)));
    client.pass(20);
    // It came further, so it has its time anew; and what is told never goes back.
    assert_eq!(client.refresh(identity(12), Standing::Stale(stamp(13))), ["told 14 User 0"]);
    client.pass(20);
    // The same again: no more time.
    assert_eq!(client.refresh(identity(12), Standing::Stale(stamp(15))), ["told 15 User 0"]);
    assert_eq!(client.pass(100), ["50s close 4401"]);
}

#[test]
fn another_users_token_is_refused() {
    let session = Some(SessionId::from_random([2; 16]));
    for (other, said) in [
        (Identity { user: "cleo".parse().unwrap(), ..identity(10) }, "close 4401"),
        (Identity { tenant: "other".parse().unwrap(), ..identity(10) }, "close 4401"),
        (Identity { session, ..identity(10) }, "register"),
    ] {
        let mut client = Client::live(identity(10));
        client.step(Input::Text(r#"{"type":"refresh","token":"t"}"#));
        assert_eq!(client.step(Input::Identified(Ok(other))), [said]);
    }
}

#[test]
fn a_refresh_that_cannot_be_looked_at_may_be_tried_again() {
    let mut client = Client::live(identity(10));
    client.step(Input::Text(r#"{"type":"refresh","token":"t"}"#));
    assert_eq!(client.step(Input::Text(r#"{"type":"refresh","token":"u"}"#)), [""; 0]);
    assert_eq!(client.step(Input::Identified(Err(Refusal::Unavailable))), ["error unavailable", "identify"]);
    client.step(Input::Identified(Ok(identity(10))));
    assert_eq!(client.step(Input::Registered(Ok((7, Standing::Fresh)))), ["refreshed 10", "settled"]);
}

#[test]
fn it_is_heard_of_every_heartbeat() {
    let mut client = Client::live(identity(10));
    for beat in 1..4 {
        assert_eq!(client.state.deadline(), Some(Boottime(HEARTBEAT * beat)));
        client.at = HEARTBEAT * beat;
        assert_eq!(client.step(Input::Tick), ["heartbeat 10"]);
    }
    assert_eq!(client.step(Input::Text(r#"{"type":"ping"}"#)), ["heartbeat 10"]);
}

#[test]
fn a_token_is_announced_to_expire_once_and_then_expires() {
    let mut client = Client::live(identity(10));
    assert_eq!(client.pass(2000), ["840s expiring 60000", "905s close 4401"]);
    // A short life is announced after three quarters of it.
    let short = Identity { expires_at: Timestamp::from_millis(20_000), ..identity(10) };
    assert_eq!(Client::live(short).pass(100), ["15s expiring 5000", "25s close 4401"]);
}

#[test]
fn an_expiry_cut_by_a_grant_is_not_announced() {
    let cut = Identity { expires_at: Timestamp::from_millis(20_000), cut: true, ..identity(10) };
    assert_eq!(Client::live(cut.clone()).pass(100), ["55s close 4401"]);
    // The end of the grant comes as a change.
    let mut client = Client::live(cut);
    client.pass(25);
    assert_eq!(client.step(mail(notice(12, Reason::User, 0))), ["told 12 User 0"]);
    assert_eq!(client.refresh(identity(12), Standing::Fresh), ["refreshed 12", "settled"]);
    assert_eq!(client.pass(500), [""; 0]);
}

#[test]
fn a_locked_client_is_not_late() {
    let lock = |lock| Input::Mail(Mail { lock: Some(lock), ..Mail::default() });
    let mut client = Client::live(identity(10));
    client.step(mail(notice(12, Reason::User, 0)));
    assert_eq!(client.step(lock(Lock::Locked { retry_after_s: 30 })), ["locked 30"]);
    assert_eq!(client.step(lock(Lock::Locked { retry_after_s: 30 })), [""; 0]);
    assert_eq!(client.pass(100), [""; 0]);
    assert_eq!(client.step(lock(Lock::Open { within: Duration::from_secs(2) })), ["unlocked 2000"]);
    assert_eq!(client.step(lock(Lock::Open { within: Duration::ZERO })), [""; 0]);
    assert_eq!(client.pass(100), ["132s close 4401"]);
}

#[test]
fn a_thin_token_need_not_be_refreshed() {
    let thin = || Identity { thin: true, ..identity(10) };
    let mut client = Client::live(thin());
    assert_eq!(client.step(mail(notice(12, Reason::Role, 5))), ["told 12 Role 5", "rebase"]);
    assert_eq!(client.step(mail(notice(13, Reason::Role, 5))), ["told 13 Role 5"], "one look-up at a time");
    assert_eq!(client.step(Input::Rebased(Ok(Standing::Fresh))), ["settled", "rebase"]);
    assert_eq!(client.step(Input::Rebased(Err(Unregistered::Unavailable))), [""; 0]);
    assert_eq!(client.pass(1), ["0s rebase"]);
    assert_eq!(client.step(Input::Rebased(Ok(Standing::Moved(stamp(14))))), ["told 14 User 0", "rebase"]);
    assert_eq!(client.step(Input::Rebased(Ok(Standing::Fresh))), ["settled"]);
    assert_eq!(client.pass(600), [""; 0]);
    // Floors that were folded, or revoked keys, take the token itself.
    assert_eq!(client.step(mail(notice(15, Reason::Tenant, 0))), ["told 15 Tenant 0", "rebase"]);
    assert_eq!(client.step(Input::Rebased(Ok(Standing::Stale(stamp(15))))), [""; 0]);
    assert_eq!(client.pass(100), ["631s close 4401"]);
    let mut client = Client::live(thin());
    client.step(mail(notice(12, Reason::Everyone, 0)));
    client.step(Input::Rebased(Ok(Standing::Fresh)));
    assert_eq!(client.pass(100), ["30s close 4401"]);
}

#[test]
fn a_thin_token_whose_user_changed_is_told_at_welcome() {
    let mut client = Client::new();
    client.step(Input::Identified(Ok(Identity { thin: true, ..identity(5) })));
    let said = client.step(Input::Registered(Ok((7, Standing::Moved(stamp(9))))));
    assert_eq!(said, ["welcome 10", "told 9 User 0", "rebase"]);
}

#[derive(Debug, Clone)]
enum Event {
    Text(&'static str),
    Answer(Result<(u64, bool, bool), Refusal>),
    Registered(usize, u64),
    Rebased(usize, u64),
    Notice(u64, usize, u64),
    Lock(Option<u32>),
    End(usize),
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => prop_oneof![
            Just(r#"{"type":"hello","token":"t"}"#),
            Just(r#"{"type":"refresh","token":"t"}"#),
            Just(r#"{"type":"ping"}"#),
            Just(r#"{"type":"other"}"#),
        ].prop_map(Event::Text),
        8 => (0..30u64, any::<bool>(), any::<bool>()).prop_map(|token| Event::Answer(Ok(token))),
        8 => (0..3usize, 0..30u64).prop_map(|(standing, seq)| Event::Registered(standing, seq)),
        4 => (0..4usize, 0..30u64).prop_map(|(standing, seq)| Event::Rebased(standing, seq)),
        4 => (1..30u64, 0..4usize, 0..40u64).prop_map(|(seq, reason, within)| Event::Notice(seq, reason, within)),
        1 => proptest::option::of(1..9u32).prop_map(Event::Lock),
        1 => (0..7usize).prop_map(Event::End),
        2 => (0..40u64).prop_map(Event::Pass),
    ]
}

fn standing(kind: usize, seq: u64) -> Standing {
    [Standing::Fresh, Standing::Stale(stamp(seq)), Standing::Moved(stamp(seq)), Standing::Ended][kind]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_nothing_follows_a_close_and_no_version_goes_back(
        events in proptest::collection::vec(event(), 1..80),
    ) {
        let mut client = Client::new();
        let (mut told, mut closed, mut welcomed, mut waiting) = (Stamp::NEVER, false, false, 0u32);
        for event in events {
            let input = match event {
                Event::Text(text) => Input::Text(text),
                Event::Answer(_) if waiting == 0 => continue,
                Event::Answer(Err(refusal)) => Input::Identified(Err(refusal)),
                Event::Answer(Ok((seq, thin, cut))) => Input::Identified(Ok(Identity { thin, cut, ..identity(seq) })),
                Event::Registered(kind, seq) => Input::Registered(Ok((7, standing(kind, seq)))),
                Event::Rebased(kind, seq) => Input::Rebased(Ok(standing(kind, seq))),
                Event::Notice(seq, reason, within) => {
                    let reasons = [Reason::User, Reason::Role, Reason::Tenant, Reason::Everyone];
                    mail(notice(seq, reasons[reason], within))
                }
                Event::Lock(lock) => {
                    let lock = lock.map_or(Lock::Open { within: Duration::ZERO }, |s| Lock::Locked { retry_after_s: s });
                    Input::Mail(Mail { lock: Some(lock), ..Mail::default() })
                }
                Event::End(0) => Input::Binary,
                Event::End(1) => Input::Drain,
                Event::End(2) => Input::Gone,
                Event::End(3) => Input::Mail(Mail { over: Some(Effect::Deleted), ..Mail::default() }),
                Event::End(4) => Input::Mail(Mail { displaced: true, ..Mail::default() }),
                Event::End(_) => Input::Stuck,
                Event::Pass(seconds) => {
                    client.at += Duration::from_secs(seconds);
                    Input::Tick
                }
            };
            let actions = client.act(input);
            prop_assert!(!closed || actions.is_empty(), "after the close: {:?}", actions);
            for (index, action) in actions.iter().enumerate() {
                match action {
                    Action::Identify(_) => waiting += 1,
                    Action::Register(_) | Action::Rebase(_) | Action::Settled(_) => waiting = 0,
                    Action::Tell(notice) => {
                        prop_assert!(welcomed && notice.stamp >= told);
                        told = notice.stamp;
                    }
                    Action::Send(ServerMessage::Welcome { .. }) => {
                        prop_assert!(!welcomed);
                        welcomed = true;
                    }
                    Action::Send(ServerMessage::Refreshed { .. } | ServerMessage::Heartbeat { .. }) => {
                        prop_assert!(welcomed);
                    }
                    Action::Send(_) => {}
                    Action::Close(_) => prop_assert_eq!(index, actions.len() - 1, "the close is the last"),
                }
            }
            closed |= client.state.is_closing();
            // Answered: nothing is wanted of the past any more.
            let late = client.state.deadline().is_some_and(|deadline| deadline.0 < client.at);
            if late {
                let more = client.act(Input::Tick);
                closed |= client.state.is_closing();
                prop_assert!(closed || client.state.deadline().is_none_or(|d| d.0 >= client.at), "{:?}", more);
            }
        }
    }
}
