//! Where the database is: a file of SQLite, or a server of PostgreSQL.

use std::path::Path;

/// Connections for reading at the most, where no setting says otherwise.
const CONNECTIONS: u32 = 8;

/// The database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// SQLite's: `sqlite://` and the path of a file.
    File(String),
    /// PostgreSQL's.
    Server(Server),
}

/// A database on a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    /// With the password.
    pub url: String,
    /// Connections for reading at the most; one more writes, one more reads the log.
    pub connections: u32,
    /// Where a standby is that may be read from, with the password; it gets as many connections.
    pub standby: Option<String>,
}

impl Database {
    /// Checks an address; a password from a file takes the place of that in the URL.
    pub(crate) fn new(address: &str, password_file: Option<&Path>, connections: Option<u32>) -> Result<Self, String> {
        let connections = connections.unwrap_or(CONNECTIONS);
        if connections == 0 {
            return Err("database_connections: at least 1".to_owned());
        }
        if address.starts_with("sqlite:") {
            return match password_file {
                Some(_) => Err("database_password_file: a file of SQLite has no password".to_owned()),
                None => Ok(Self::File(address.to_owned())),
            };
        }
        let url = server(address, password_file).ok_or_else(|| {
            "database_url: sqlite://<path>, or postgres://<user>@<host>:<port>/<database>".to_owned()
        })??;
        Ok(Self::Server(Server { url, connections, standby: None }))
    }

    /// With a standby beside it.
    pub(crate) fn beside(self, address: &str, password_file: Option<&Path>) -> Result<Self, String> {
        let Self::Server(primary) = self else {
            return Err("database_read_url: only PostgreSQL has standbys; database_url is a file".to_owned());
        };
        let standby =
            server(address, password_file).ok_or("database_read_url: postgres://<user>@<host>:<port>/<database>")??;
        Ok(Self::Server(Server { standby: Some(standby), ..primary }))
    }
}

/// The address of a server with its password; `None` where it is none.
fn server(address: &str, password_file: Option<&Path>) -> Option<Result<String, String>> {
    // What cannot be read is not repeated: there may be a password in it.
    let url = url::Url::parse(address).ok().filter(|url| ["postgres", "postgresql"].contains(&url.scheme()));
    url.map(|mut url| {
        if let Some(path) = password_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("database_password_file: cannot read {}: {error}", path.display()))?;
            // The later of two wins.
            url.query_pairs_mut().append_pair("password", text.trim_end_matches(['\n', '\r']));
        }
        Ok(url.into())
    })
}

/// Without the password.
impl std::fmt::Display for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(address) => f.write_str(address),
            Self::Server(server) => server.fmt(f),
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ok(url) = url::Url::parse(&self.url) else { return f.write_str("postgres://…") };
        let (user, host) = (url.username(), url.host_str().unwrap_or_default());
        let at = if user.is_empty() { "" } else { "@" };
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "postgres://{user}{at}{host}{port}{}", url.path())
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_used_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hu sh&1\n").unwrap();
        let address = "postgres://ann:old@db.example:6543/perms?sslmode=verify-full";
        let database = Database::new(address, Some(&file), None).unwrap();
        for shown in [database.to_string(), format!("{database:?}")] {
            assert_eq!(shown, "postgres://ann@db.example:6543/perms");
        }
        let Database::Server(server) = database else { panic!("a server is a server") };
        assert!(server.url.ends_with("sslmode=verify-full&password=hu+sh%261"), "{}", server.url);
        let database = Database::Server(server).beside("postgres://db2/perms", Some(&file)).unwrap();
        let Database::Server(server) = database else { panic!("a server is a server") };
        assert_eq!(server.standby.as_deref(), Some("postgres://db2/perms?password=hu+sh%261"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        let missing = Path::new("/nowhere/password");
        for (address, file) in [
            ("mysql://ann:hush@db/perms", None),
            ("postgres://ann:hush@db:port/perms", None),
            ("postgres://ann:hush@db/perms", Some(missing)),
            ("sqlite://a.db", Some(missing)),
        ] {
            let fault = Database::new(address, file, None).unwrap_err();
            assert!(!fault.contains("hush"), "{fault}");
        }
        assert!(Database::new("postgres://db/perms", None, Some(0)).is_err());
        for (primary, standby) in
            [("sqlite://a.db", "postgres://db/perms"), ("postgres://db/perms", "sqlite://hush.db")]
        {
            let fault = Database::new(primary, None, None).unwrap().beside(standby, None).unwrap_err();
            assert!(fault.contains("database_read_url") && !fault.contains("hush"), "{fault}");
        }
        assert_eq!(Database::new("sqlite://a.db", None, None), Ok(Database::File("sqlite://a.db".to_owned())));
    }
}
