//! Problem types (RFC 9457): the one list of what an answer above 399 can mean. Clients tell them apart by `type`.

macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $slug:literal, $title:literal, $advice:literal;)+) => {
        /// What went wrong, as a client can tell it apart.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemType {
            $($(#[$doc])* $name,)+
        }

        impl ProblemType {
            /// All of them, in order of status.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The status code.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }

            /// The last part of the `type` URI.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)+ }
            }

            /// The same for every problem of this type.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What a client, or the person before it, is to do about it.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$name => $advice,)+ }
            }
        }
    };
}

problem_types! {
    /// Not well-formed: bytes that are no JSON, a header that cannot be read.
    Malformed = 400, "malformed", "The request is not well-formed",
        "Send what the API's description asks for; the detail says what could not be read. Sending the same again will not help.";
    /// No token, or one that does not hold.
    Unauthenticated = 401, "unauthenticated", "A valid access token is needed",
        "Send `Authorization: Bearer <access token>`; if you did, the token expired or does not hold: refresh it, or sign in again.";
    /// A change touched the token's permissions: refresh it.
    StaleToken = 401, "stale-token", "The permissions in the token have changed",
        "Refresh the token. `WWW-Authenticate` names the version that the new one must reach, in `pv`; ask for it with the header `Permcast-At-Least`.";
    /// The token's session is over: sign in again.
    SessionEnded = 401, "session-ended", "The session is over",
        "Sign in again. The session was ended: by a sign-out, a suspension, a new password, or because a refresh token was used twice. It cannot be refreshed.";
    /// The caller may not.
    Forbidden = 403, "forbidden", "This is not allowed",
        "Ask somebody who may grant the permission. Whoever does not hold a `permcast:` permission himself can neither give it nor take it away.";
    /// No such path.
    NotFound = 404, "not-found", "There is nothing here",
        "Check the path. To one who may not see a thing, it is not there.";
    UnknownTenant = 404, "unknown-tenant", "There is no such tenant",
        "Check the tenant's name. To one who is no operator, another's tenant and an unknown one are the same.";
    UnknownUser = 404, "unknown-user", "There is no such user",
        "Check the user's id, and that it is percent-encoded in the path.";
    UnknownRole = 404, "unknown-role", "There is no such role",
        "Check the role's name; roles are the tenant's own.";
    UnknownSession = 404, "unknown-session", "There is no such session",
        "The session is over, or was never there: nothing is left to be done.";
    /// The path is served, but not with this method.
    MethodNotAllowed = 405, "method-not-allowed", "This method is not served here",
        "Use one of the methods that the header `Allow` names.";
    /// It is there already.
    Exists = 409, "exists", "It exists already",
        "Take another name, or change what is there with PATCH. The id of a deleted user is free again only after the longest life of a refresh token.";
    /// A rule of the whole would be broken.
    Conflict = 409, "conflict", "This would break a rule of the whole",
        "Read the detail: it names the rule, such as that the last operator cannot be lost, or that roles include one another in no circle.";
    /// The demanded version is of another epoch, or above the head of the log.
    UnreachableVersion = 412, "unreachable-version", "The demanded version cannot be reached",
        "Drop the demanded version, and read anew: it is of another life of the log, as after a restore, or was never given.";
    TooLarge = 413, "too-large", "The request is too large",
        "Send less at once: a body holds 64 KiB at most, a batch 1 MiB and 1,000 operations.";
    UnsupportedMediaType = 415, "unsupported-media-type", "The body is of a type that is not read here",
        "Send JSON with `Content-Type: application/json`; the OAuth endpoints take forms.";
    /// Well-formed, but against a rule.
    Invalid = 422, "invalid", "The request breaks a rule",
        "Mend what `errors` points at, member by member. Sending the same again will not help.";
    TooManyRequests = 429, "too-many-requests", "Too many requests",
        "Wait as long as `Retry-After` says, then try again.";
    /// A fault of permcast.
    Internal = 500, "internal", "Something went wrong on our side",
        "Tell whoever runs this server, with the `X-Request-Id` of the answer: it finds the line in the log.";
    /// The database cannot be reached or cannot write now.
    Unavailable = 503, "unavailable", "The service is unavailable for the moment",
        "Try again as `Retry-After` says, or after a moment: the database cannot be reached or cannot write. Nothing was changed.";
    /// This replica is past its staleness bound, and decides nothing.
    TooStale = 503, "too-stale", "This replica cannot tell whether it is up to date",
        "Try again in a moment, or at another replica: this one has lost touch with the log, and decides nothing rather than decide wrongly.";
    /// The demanded version was not applied here in time.
    Behind = 503, "behind", "This replica has not applied the demanded version yet",
        "Try again as `Retry-After` says: this replica had not applied the demanded version within a second.";
    /// A lockdown is in force.
    Locked = 503, "locked", "A lockdown is in force",
        "Wait as long as `Retry-After` says: operators have locked everybody else out for now, and will lift it.";
}

impl ProblemType {
    /// The `type` URI, relative to the server.
    pub fn uri(self) -> String {
        format!("/problems/{}", self.slug())
    }

    /// The type of an answer of which nothing but the status is known.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            405 => Self::MethodNotAllowed,
            409 => Self::Conflict,
            412 => Self::UnreachableVersion,
            413 => Self::TooLarge,
            415 => Self::UnsupportedMediaType,
            422 => Self::Invalid,
            429 => Self::TooManyRequests,
            503 => Self::Unavailable,
            500.. => Self::Internal,
            _ => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_type_has_its_own_slug_and_a_status_of_an_error() {
        let slugs: HashSet<_> = ProblemType::ALL.iter().map(|t| t.slug()).collect();
        assert_eq!(slugs.len(), ProblemType::ALL.len());
        assert!(ProblemType::ALL.iter().all(|t| (400..600).contains(&t.status())));
        assert!(ProblemType::ALL.is_sorted_by_key(|t| t.status()));
        assert!(ProblemType::ALL.iter().all(|t| t.advice().ends_with('.')));
    }

    #[test]
    fn a_bare_status_keeps_its_number_where_the_contract_knows_it() {
        for status in [400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429, 500, 503] {
            assert_eq!(ProblemType::of_status(status).status(), status);
        }
    }
}
