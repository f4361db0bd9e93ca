//! Problem types (RFC 9457): the one list of what an answer above 399 can mean. Clients tell them apart by `type`.

macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $slug:literal, $title:literal;)+) => {
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
        }
    };
}

problem_types! {
    /// Not well-formed: bytes that are no JSON, a header that cannot be read.
    Malformed = 400, "malformed", "The request is not well-formed";
    /// No token, or one that does not hold.
    Unauthenticated = 401, "unauthenticated", "A valid access token is needed";
    /// A change touched the token's permissions: refresh it.
    StaleToken = 401, "stale-token", "The permissions in the token have changed";
    /// The token's session is over: sign in again.
    SessionEnded = 401, "session-ended", "The session is over";
    /// The caller may not.
    Forbidden = 403, "forbidden", "This is not allowed";
    /// No such path.
    NotFound = 404, "not-found", "There is nothing here";
    UnknownTenant = 404, "unknown-tenant", "There is no such tenant";
    UnknownUser = 404, "unknown-user", "There is no such user";
    UnknownRole = 404, "unknown-role", "There is no such role";
    UnknownSession = 404, "unknown-session", "There is no such session";
    /// The path is served, but not with this method.
    MethodNotAllowed = 405, "method-not-allowed", "This method is not served here";
    /// It is there already.
    Exists = 409, "exists", "It exists already";
    /// A rule of the whole would be broken.
    Conflict = 409, "conflict", "This would break a rule of the whole";
    /// The demanded version is of another epoch, or above the head of the log.
    UnreachableVersion = 412, "unreachable-version", "The demanded version cannot be reached";
    TooLarge = 413, "too-large", "The request is too large";
    UnsupportedMediaType = 415, "unsupported-media-type", "The body is of a type that is not read here";
    /// Well-formed, but against a rule.
    Invalid = 422, "invalid", "The request breaks a rule";
    TooManyRequests = 429, "too-many-requests", "Too many requests";
    /// A fault of permcast.
    Internal = 500, "internal", "Something went wrong on our side";
    /// The database cannot be reached or cannot write now.
    Unavailable = 503, "unavailable", "The service is unavailable for the moment";
    /// This replica is past its staleness bound, and decides nothing.
    TooStale = 503, "too-stale", "This replica cannot tell whether it is up to date";
    /// The demanded version was not applied here in time.
    Behind = 503, "behind", "This replica has not applied the demanded version yet";
    /// A lockdown is in force.
    Locked = 503, "locked", "A lockdown is in force";
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
    }

    #[test]
    fn a_bare_status_keeps_its_number_where_the_contract_knows_it() {
        for status in [400, 401, 403, 404, 405, 409, 412, 413, 415, 422, 429, 500, 503] {
            assert_eq!(ProblemType::of_status(status).status(), status);
        }
    }
}
