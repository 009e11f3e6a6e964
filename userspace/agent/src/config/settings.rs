//! Every setting: its name, type, default, limits and documentation in one place.

use super::setting::section;
use super::values::{Headers, Interval, Labels, Level, Size, Url};

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use transport::Secret;

section! {
    /// What belongs to no part.
    pub(crate) struct Settings {
        /// Labels put on everything that leaves this machine, for example `cluster: production`. They never
        /// replace a label that is already there.
        external_labels: Labels = (Labels::default());
        /// Who this machine is.
        node: Node = section;
        /// What is logged to standard error.
        log: Log = section;
        /// The profiler.
        profiler: Profiler = section;
        /// Records that wait for their destinations.
        queue: Queue = section;
        /// The embedded store.
        storage: Storage = section;
        /// Backends.
        destinations: Destinations = section;
        /// The user interface.
        ui: Ui = section;
    }
}

section! {
    /// Who this machine is.
    pub(crate) struct Node {
        /// The value of the `node` label. Without it the host's name is taken; in Kubernetes set it from
        /// `spec.nodeName`.
        name: Option<String> = None;
    }
}

section! {
    /// What is logged to standard error. `--log-level` and the environment variable `KOVAR_LOG` come before it.
    pub(crate) struct Log {
        /// How much is logged: `error`, `warn`, `info`, `debug` or `trace`. Changed by a reload.
        level: Level = (Level::Info);
    }
}

section! {
    /// The profiler of the whole machine. A change needs a restart.
    pub(crate) struct Profiler {
        /// Whether the machine is profiled.
        enabled: bool = true;
        /// How often each CPU is sampled. The default is prime, so that it does not beat with timers.
        rate_hz: u32 = 97, in 1..=1000, unit "samples per second";
        /// Whether the kernel's frames are kept.
        kernel: bool = true;
        /// Whether the frames of programs are kept.
        user: bool = true;
        /// How often counts leave the kernel; it is how live the user interface can be.
        drain_interval: Interval = (Interval::seconds(1)), in Interval::seconds(1)..=Interval::seconds(2);
        /// How much time one delivered profile covers.
        push_interval: Interval = (Interval::seconds(15)), in Interval::seconds(5)..=Interval::seconds(60);
        /// How much kernel memory the unwind tables of executables and the mappings of processes may take together.
        /// It is taken as it is needed and kept until the end. Beyond it the tables not used for longest go, and
        /// the stacks of their executables follow frame pointers.
        tables_max_bytes: Size = (Size::mib(96)), in Size::mib(16)..=Size::gib(1);
    }
}

section! {
    /// Records that wait for their destinations, in memory. A change needs a restart.
    pub(crate) struct Queue {
        /// How far a destination may lag behind; beyond it its oldest records are dropped and counted.
        max_bytes: Size = (Size::mib(32)), in Size::mib(8)..=Size::gib(4);
    }
}

section! {
    /// The embedded store, which the user interface reads. A change needs a restart.
    pub(crate) struct Storage {
        /// The directory. When the default cannot be written a temporary one is taken, with a warning; a directory
        /// that is set here must be writable.
        path: PathBuf = (PathBuf::from("/var/lib/kovar"));
        /// How much profiles may take there; beyond it the oldest are deleted.
        max_bytes: Size = (Size::gib(1)), in Size::mib(16)..=Size::gib(1024);
        /// How long profiles are kept.
        max_age: Interval = (Interval::hours(24)), in Interval::hours(1)..=Interval::hours(720);
    }
}

section! {
    /// Backends; without any, the embedded store is the only place profiles go to. A reload changes them.
    pub(crate) struct Destinations {
        /// Pyroscope and what speaks its push protocol.
        pyroscope: Vec<Pyroscope> = (Vec::new());
    }
}

section! {
    /// One Pyroscope. Profiles go to each entry, and an entry that is away does not hold up the others.
    pub(crate) struct Pyroscope {
        /// Its name in metrics, logs and the user interface; unique. Without it the address's host is taken.
        name: Option<String> = None;
        /// Where it is, for example `http://pyroscope:4040`, without the path of the push protocol.
        url: Url = required;
        /// Header fields sent with each request.
        headers: Headers = (Headers::default());
        /// Sent as `X-Scope-OrgID` to a Pyroscope with several tenants.
        tenant: Option<String> = None;
        /// A token for the `Authorization` header.
        bearer_token: Option<Secret> = None;
        /// A file that holds the token; read again when it changes.
        bearer_token_file: Option<PathBuf> = None;
        /// How long one request may take.
        timeout: Interval = (Interval::seconds(10)), in Interval::seconds(1)..=Interval::seconds(120);
        /// A user and password.
        basic_auth: Option<BasicAuth> = None;
        /// How the connection is secured.
        tls: Option<Tls> = None;
    }
}

section! {
    /// A user and password for the `Authorization` header; one of `password` and `password_file` must be given.
    pub(crate) struct BasicAuth {
        /// The user.
        username: String = required;
        /// The password.
        password: Option<Secret> = None;
        /// A file that holds the password; read again when it changes.
        password_file: Option<PathBuf> = None;
    }
}

section! {
    /// How an `https` connection is secured; without it the system's certificate authorities are trusted. The files
    /// are read at the start and at each reload.
    pub(crate) struct Tls {
        /// PEM file of the certificate authorities to trust, instead of the system's.
        ca_file: Option<PathBuf> = None;
        /// PEM file of the client's certificate; needs `key_file`.
        cert_file: Option<PathBuf> = None;
        /// PEM file of the client's key; needs `cert_file`.
        key_file: Option<PathBuf> = None;
        /// Accepts any certificate. For tests only: anybody on the way can read and change what is sent.
        insecure_skip_verify: bool = false;
    }
}

section! {
    /// The user interface, `/metrics`, `/-/ready`, `/-/healthy` and `/-/reload`. A change needs a restart.
    pub(crate) struct Ui {
        /// The address it listens on. It has no login: who can reach it sees which functions run on this machine.
        listen: SocketAddr = (SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 12345));
    }
}
