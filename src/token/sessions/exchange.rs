//! Sessions for those whom a trusted issuer vouches for.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Attempt, Authenticated, Client, Credentials, FIRST_PARTY_CLIENT, Issued, Parts, SessionError, Sessions};
use crate::domain::records::UserKind;
use crate::domain::{TenantName, UserId};

impl Sessions {
    /// Opens a session for one whom a trusted issuer's token names (RFC 8693). `named` looks at the token and says whom:
    /// nobody, where it does not hold, which counts as a guess.
    pub async fn exchange<E>(
        &self,
        token: &str,
        client: &Client,
        named: impl Future<Output = Result<Option<(TenantName, UserId)>, E>>,
    ) -> Result<Issued, E>
    where
        E: From<SessionError>,
    {
        let Parts { clock, random, .. } = &self.parts;
        // Under the token itself: under what it claims somebody else could be held up.
        let attempt = Attempt::new("", &token_name(token), client.address);
        self.guesses()
            .admit(&attempt, clock.boottime())
            .map_err(|retry_after| SessionError::TooMany { retry_after })?;
        let named = named.await;
        if !matches!(named, Ok(None)) {
            self.guesses().undecided(&attempt, clock.boottime());
        }
        let Some((tenant, user)) = named? else {
            metrics::counter!("permcast_exchanges_refused_total").increment(1);
            let why = "the subject token does not hold, or names nobody here";
            return Err(SessionError::InvalidGrant(why).into());
        };
        self.check_lockdown(&tenant, &user).await?;
        let credentials = Credentials { user, kind: UserKind::Person, active: true, password: None };
        let id = random.bytes();
        let refresh = self.refresh_tokens.load().first(id, &**random);
        let somebody = Authenticated { tenant, credentials };
        let begun =
            self.begin(somebody, id, Some(refresh), self.settings.refresh_ttl, FIRST_PARTY_CLIENT.to_owned(), client);
        begun.await.map_err(|error| match error {
            SessionError::Refused => SessionError::InvalidGrant("the user is not active").into(),
            error => error.into(),
        })
    }
}

/// What an attempt with a token is counted under.
fn token_name(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()))
}
