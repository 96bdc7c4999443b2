//! Every check of the suite: its id, what must hold in each profile, and where that comes from.
//!
//! To add a check: (1) a line here, (2) a `suite.check("its.id", …)` in the file of its area below
//! `checks/`, (3) a mutant that it catches in `tests/blackbox/mutants.rs`, (4) `docs/certify.md`
//! anew, which the tests do.

/// Which set of promises an endpoint is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What a real Apache Livy does, faults included.
    ApacheLivy,
    /// What livy-gateway promises.
    Gateway,
}

impl Profile {
    /// Returns the profile's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Profile::ApacheLivy => "apache-livy",
            Profile::Gateway => "gateway",
        }
    }
}

/// One check.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// `area.point`, never reused for another meaning.
    pub id: &'static str,
    /// What a real Livy does; `None` where it promises nothing.
    pub livy: Option<&'static str>,
    /// What the gateway promises; `None` where it promises nothing.
    pub gateway: Option<&'static str>,
    /// Where that comes from: a file of Livy's source, its documentation, a client that depends on
    /// it, a page of this project.
    pub source: &'static str,
}

impl Check {
    /// Returns what must hold in a profile.
    pub const fn says(&self, profile: Profile) -> Option<&'static str> {
        match profile {
            Profile::ApacheLivy => self.livy,
            Profile::Gateway => self.gateway,
        }
    }

    /// Counts the checks of a profile.
    pub fn of(profile: Profile) -> usize {
        CHECKS
            .iter()
            .filter(|check| check.says(profile).is_some())
            .count()
    }

    /// Finds a check by its id.
    pub fn find(id: &str) -> Option<&'static Check> {
        CHECKS.iter().find(|check| check.id == id)
    }
}

/// The same in both profiles.
const fn both(id: &'static str, says: &'static str, source: &'static str) -> Check {
    Check {
        id,
        livy: Some(says),
        gateway: Some(says),
        source,
    }
}

/// Different in the two: a fault of Livy's that the gateway does not copy.
const fn differs(
    id: &'static str,
    livy: &'static str,
    gateway: &'static str,
    source: &'static str,
) -> Check {
    Check {
        id,
        livy: Some(livy),
        gateway: Some(gateway),
        source,
    }
}

/// A promise of the gateway alone.
const fn ours(id: &'static str, says: &'static str, source: &'static str) -> Check {
    Check {
        id,
        livy: None,
        gateway: Some(says),
        source,
    }
}

/// Every check, in the order in which reports show them.
pub const CHECKS: &[Check] = &[
    both(
        "submit.created",
        "a submission is answered with 201",
        "SessionServlet.scala; Kylin and dbnd accept nothing else",
    ),
    both(
        "submit.batch",
        "the 201 carries the whole batch, every key present",
        "BatchSessionServlet.scala; Airflow fails on a missing appId",
    ),
    differs(
        "submit.location",
        "`Location` is the path `/batches/{id}`, without a host",
        "`Location` is the client's own prefix and `/batches/{id}`, without a host, and leads to the batch",
        "SessionServlet.scala; scripts poll host + Location",
    ),
    differs(
        "submit.id",
        "ids are 32-bit integers from 0 that go up",
        "ids are positive 32-bit integers that go up",
        "SessionManager.scala; Airflow takes id 0 for none and refuses texts",
    ),
    both(
        "submit.name",
        "the name is given back as it was sent",
        "BatchSession.scala",
    ),
    both(
        "submit.scalars",
        "numbers and booleans in `args` and `conf` are taken as texts",
        "Jackson's coercion, seen on Livy 0.7.1; pylivy sends them",
    ),
    both(
        "submit.null_scalars",
        "null for a text or an integer means absent",
        "CreateBatchRequest.scala; Hue sends nulls",
    ),
    differs(
        "submit.null_lists",
        "null for a list is a 500 with a bare JSON string (NullPointerException)",
        "null for a list means absent",
        "seen on Livy 0.7.1; Hue sends nulls",
    ),
    // A real Livy fails in the text of a log line, and so only where it writes that line.
    ours(
        "submit.null_conf",
        "`conf: null` means absent",
        "Hue sends nulls",
    ),
    differs(
        "submit.text_integer",
        "an integer field given as text is a 500 with a bare JSON string (ClassCastException)",
        "an integer given as text is that integer",
        "seen on Livy 0.7.1; Airflow sends texts",
    ),
    both(
        "submit.text_plain",
        "JSON is read whatever Content-Type says, forms aside",
        "SessionServlet.scala; seen on Livy 0.7.1",
    ),
    differs(
        "submit.form",
        "a form Content-Type loses the body: 400, \"No content to map\"",
        "a form Content-Type is a 415 that says what to send",
        "seen on Livy 0.7.1; curl's default",
    ),
    differs(
        "submit.csrf",
        "without X-Requested-By a POST is taken, or refused with 400 and nothing made",
        "X-Requested-By is not needed",
        "CsrfFilter.scala; pylivy, Kylin and others never send it",
    ),
    ours(
        "submit.idempotent",
        "the same Idempotency-Key and body give the same batch, another body 422",
        "README",
    ),
    differs(
        "refuse.malformed",
        "broken JSON is a 400 with a bare JSON string",
        "broken JSON is a 400",
        "JsonServlet.scala",
    ),
    differs(
        "refuse.empty",
        "an empty body is a 400 with a bare JSON string",
        "an empty body is a 400",
        "JsonServlet.scala",
    ),
    differs(
        "refuse.array",
        "a body that is a list is a 400 with a bare JSON string",
        "a body that is a list is a 400",
        "JsonServlet.scala",
    ),
    differs(
        "refuse.text_body",
        "a body that is a text is a 400 with a bare JSON string",
        "a body that is a text is a 400",
        "seen on Livy 0.7.1",
    ),
    differs(
        "refuse.null_body",
        "a body that is null is a 500 with a bare JSON string (NullPointerException)",
        "a body that is null is a 400",
        "seen on Livy 0.7.1",
    ),
    differs(
        "refuse.unknown_field",
        "a field that Livy does not know is a 400, a bare JSON string that names it",
        "a field that Livy does not know is a 400 that names it",
        "CreateBatchRequest.scala",
    ),
    differs(
        "refuse.wrong_type",
        "a text where a list belongs is a 400 with a bare JSON string",
        "a text where a list belongs is a 400 that names the field",
        "seen on Livy 0.7.1",
    ),
    differs(
        "refuse.list_entry",
        "an object in a list of texts is a 400 with a bare JSON string",
        "an object in a list of texts is a 400 that names the field",
        "seen on Livy 0.7.1",
    ),
    differs(
        "refuse.conf_list",
        "a list for `conf` is a 400 with a bare JSON string",
        "a list for `conf` is a 400 that names the field",
        "seen on Livy 0.7.1",
    ),
    differs(
        "refuse.fraction",
        "a fraction in an integer field is a 500 with a bare JSON string (ClassCastException)",
        "a fraction in an integer field is a 400 that names the field",
        "seen on Livy 0.7.1",
    ),
    differs(
        "refuse.big_integer",
        "an integer past 32 bits is a 500 with a bare JSON string (ClassCastException)",
        "an integer past 32 bits is a 400 that names the field",
        "seen on Livy 0.7.1",
    ),
    both(
        "refuse.no_file",
        "a submission without `file` is a 400 that says so",
        "BatchSession.scala: \"File is required.\"",
    ),
    both(
        "refuse.null_file",
        "`file: null` is a 400 that says so",
        "BatchSession.scala: \"File is required.\"",
    ),
    differs(
        "refuse.empty_file",
        "`file: \"\"` is a 500 with a bare JSON string (IndexOutOfBoundsException)",
        "`file: \"\"` is a 400 that names the field",
        "seen on Livy 0.7.1",
    ),
    both(
        "refuse.relative_file",
        "a path without scheme that is not absolute is a 400 that says so",
        "Session.scala, resolveURI",
    ),
    both(
        "refuse.bad_uri",
        "a path that is no URI is a 400 that says so",
        "Session.scala, resolveURI",
    ),
    both(
        "refuse.number_name",
        "a name that is a number is a 400, \"Invalid session name\"",
        "SessionManager.scala, since 0.6",
    ),
    both(
        "refuse.digits_name",
        "a name of digits only is a 400, \"Invalid session name\"",
        "SessionManager.scala, since 0.6",
    ),
    both(
        "refuse.empty_name",
        "an empty name is a 400, \"Invalid session name\"",
        "SessionManager.scala, since 0.6",
    ),
    both(
        "refuse.taken_name",
        "a name that a live batch has is a 400, \"Duplicate session name\"",
        "SessionManager.scala, since 0.6; Airflow's retries meet it",
    ),
    differs(
        "refuse.ghost",
        "a refused submission stays listed as `starting` and keeps its name until it is deleted",
        "a refused submission leaves nothing behind: its name can be used at once",
        "BatchSession.scala registers before it prepares; LIVY users saw leaked names",
    ),
    both(
        "batch.keys",
        "a batch has all of Livy's keys with their types: id name owner proxyUser state appId appInfo log",
        "BatchSessionServlet.scala, since 0.7; docs/rest-api.md",
    ),
    both(
        "batch.by_name",
        "a batch is found by its name as by its id",
        "SessionServlet.scala, since 0.6, undocumented",
    ),
    differs(
        "batch.log_tail",
        "a batch shows the last lines of its log, ten at most",
        "a batch shows the last lines of its log, ten at most, or none where its cluster tells none with the batch",
        "BatchSessionServlet.scala; docs/flavors.md",
    ),
    ours(
        "batch.owner",
        "`owner` is the user who submitted",
        "README; behind one service account Livy itself shows the same owner everywhere",
    ),
    both(
        "batch.missing",
        "an unknown id is a 404 with a message",
        "SessionServlet.scala",
    ),
    both(
        "batch.missing_name",
        "an unknown name is a 404 with a message",
        "SessionServlet.scala, since 0.6",
    ),
    both(
        "batch.negative",
        "a negative id is a 404 with a message",
        "seen on Livy 0.7.1",
    ),
    both(
        "batch.overflow",
        "an id past 32 bits is a 400, \"For input string\"",
        "seen on Livy 0.7.1",
    ),
    both(
        "state.body",
        "`/state` is exactly {id, state}",
        "SessionServlet.scala; docs/rest-api.md",
    ),
    differs(
        "state.words",
        "states are Livy's: starting recovering running success dead killed",
        "states are only those that every client knows: starting running success dead killed error",
        "SessionState.scala; Airflow fails on any other word",
    ),
    both(
        "state.order",
        "states go forward: starting, running, an end",
        "SessionState.scala",
    ),
    both(
        "state.final",
        "a batch that has ended keeps its state",
        "SessionState.scala",
    ),
    both(
        "state.agrees",
        "`/state`, the batch and the list tell the same end",
        "SessionServlet.scala",
    ),
    both(
        "state.running",
        "a job that runs is `running`",
        "SparkApp.scala",
    ),
    both(
        "state.success",
        "a job that ends well is `success`",
        "SparkApp.scala",
    ),
    both(
        "state.dead",
        "a job that fails is `dead`",
        "SparkApp.scala; `killed` makes Kylin poll for ever",
    ),
    both(
        "state.missing",
        "the state of an unknown id is a 404 with a message",
        "SessionServlet.scala",
    ),
    both(
        "log.body",
        "a log is exactly {id, from, total, log} with integers and texts",
        "BatchSessionServlet.scala; docs/rest-api.md says `size` for `total`",
    ),
    both(
        "log.before_end",
        "a log can be read while the job runs",
        "BatchSessionServlet.scala",
    ),
    both(
        "log.default",
        "without parameters the last 100 lines come",
        "SessionServlet.scala, serializeLogs",
    ),
    both(
        "log.head",
        "from=0&size=2 are the first two lines",
        "SessionServlet.scala, serializeLogs",
    ),
    both(
        "log.middle",
        "from=1&size=1 is the second line",
        "SessionServlet.scala, serializeLogs",
    ),
    both(
        "log.tail",
        "without `from` come the last `size` lines",
        "SessionServlet.scala, serializeLogs",
    ),
    both(
        "log.negative_from",
        "a negative `from` means the tail too",
        "seen on Livy 0.7.1",
    ),
    both(
        "log.all",
        "a negative `size` means every line",
        "seen on Livy 0.7.1; python-livy asks so",
    ),
    both(
        "log.nothing",
        "size=0 gives no line, `from` at the end",
        "seen on Livy 0.7.1",
    ),
    both(
        "log.beyond",
        "a `from` past the end gives no line and is echoed",
        "seen on Livy 0.7.1",
    ),
    differs(
        "log.overflow",
        "from=1&size=2147483647 gives no line: 32 bits overflow",
        "from=1&size=2147483647 gives all but the first line",
        "seen on Livy 0.7.1; Azure's toolkit asks for 2147483647",
    ),
    both(
        "log.paged",
        "pages put together are the whole log",
        "Airflow's dump_batch_logs",
    ),
    differs(
        "log.sections",
        "a log has the section lines `stdout: ` and `\\nstderr: `",
        "a log has the section lines `stdout: ` and `\\nstderr: `, or is one line that says where it is",
        "LineBufferedStream.scala, BatchSession.scala; python-livy cuts logs there",
    ),
    both(
        "log.total",
        "`total` counts every line, in each window",
        "SessionServlet.scala, serializeLogs; Airflow pages until it",
    ),
    both(
        "log.bad_number",
        "a `from` or `size` that is no number is a 400, \"For input string\"",
        "seen on Livy 0.7.1",
    ),
    both(
        "log.missing",
        "the log of an unknown id is a 404 with a message",
        "SessionServlet.scala",
    ),
    both(
        "list.body",
        "a list is exactly {from, total, sessions}",
        "SessionServlet.scala; docs/rest-api.md",
    ),
    both(
        "list.batches",
        "every entry of a list is a whole batch",
        "BatchSessionServlet.scala",
    ),
    both(
        "list.holds",
        "what was submitted is listed",
        "SessionServlet.scala",
    ),
    both(
        "list.order",
        "a list is ordered by id",
        "SessionManager.scala",
    ),
    both(
        "list.total",
        "`total` counts all, not the page",
        "SessionServlet.scala; docs/rest-api.md says otherwise",
    ),
    both(
        "list.window",
        "`from` and `size` are positions: from=1&size=1 is the second batch",
        "SessionServlet.scala: slice",
    ),
    both(
        "list.nothing",
        "size=0 and a negative size give none",
        "seen on Livy 0.7.1",
    ),
    both(
        "list.negative_from",
        "a negative `from` is echoed and counts before the first: from=-1&size=2 is the first batch",
        "seen on Livy 0.7.1",
    ),
    both(
        "list.beyond",
        "a `from` past the end gives none and is echoed",
        "seen on Livy 0.7.1",
    ),
    differs(
        "list.overflow",
        "from=1&size=2147483647 gives none: 32 bits overflow",
        "from=1&size=2147483647 gives all but the first, 1000 at most",
        "seen on Livy 0.7.1",
    ),
    both(
        "list.bad_number",
        "a `from` or `size` that is no number is a 400, \"For input string\"",
        "seen on Livy 0.7.1",
    ),
    both(
        "kill.running",
        "DELETE of a running batch is 200 {\"msg\": \"deleted\"}",
        "SessionServlet.scala; Kylin reads the word",
    ),
    both(
        "kill.gone",
        "after DELETE the batch, its state and its log are 404",
        "SessionServlet.scala",
    ),
    both(
        "kill.unlisted",
        "after DELETE the batch is not listed",
        "SessionServlet.scala",
    ),
    both(
        "kill.again",
        "a second DELETE is a 404 with a message",
        "SessionServlet.scala",
    ),
    both(
        "kill.finished",
        "DELETE of an ended batch is 200 {\"msg\": \"deleted\"}",
        "SessionServlet.scala",
    ),
    both(
        "kill.missing",
        "DELETE of an unknown id is a 404 with a message",
        "SessionServlet.scala",
    ),
    both(
        "kill.frees_name",
        "after DELETE the name can be used again",
        "SessionManager.scala",
    ),
    both(
        "http.version",
        "GET /version has url, branch, revision, version, date, user",
        "LivyServer.scala",
    ),
    both(
        "http.head",
        "HEAD is GET without a body",
        "Scalatra; python-livy's health check",
    ),
    both(
        "http.slash",
        "`/batches/` is `/batches`",
        "Scalatra; sparklyr asks with a slash",
    ),
    differs(
        "http.item_slash",
        "a slash behind an id is a 404 without a body",
        "a slash behind an id is the same batch",
        "seen on Livy 0.7.1; Knox answers 200",
    ),
    differs(
        "http.double_slash",
        "`//batches` is a 404",
        "`//batches` is `/batches`",
        "seen on Livy 0.7.1; clients join URLs badly",
    ),
    differs(
        "http.wrong_method",
        "PUT is a 405 with Allow: DELETE, GET, HEAD and no body",
        "PUT is a 405 with Allow that names GET and DELETE",
        "Scalatra; RFC 9110 15.5.6",
    ),
    differs(
        "http.unknown_path",
        "an unknown path below a batch is a 404 without a body",
        "an unknown path below a batch is a 404 with a message",
        "Scalatra",
    ),
    differs(
        "http.method_override",
        "X-HTTP-Method-Override is obeyed",
        "X-HTTP-Method-Override is not obeyed",
        "Scalatra's MethodOverride; a header that turns a POST into a DELETE",
    ),
    both(
        "http.odd_get",
        "a GET may have a Content-Type, a body and any Accept",
        "a Go client, Airflow and Azure's toolkit send them",
    ),
    both(
        "http.json",
        "every success is JSON and says so",
        "JsonServlet.scala; Airflow's trigger refuses anything else",
    ),
    both(
        "http.no_redirect",
        "nothing redirects",
        "a redirected POST becomes a GET",
    ),
    ours(
        "http.no_cookie",
        "nothing sets a cookie",
        "sparkmagic and pylivy would keep a stale identity",
    ),
    differs(
        "http.errors",
        "an error in JSON is {\"msg\": …}, a bare string, or has no body",
        "every error is {msg, code, retryable, requestId}, and X-Request-Id is that id",
        "JsonServlet.scala; docs/errors.md",
    ),
    ours(
        "http.request_id",
        "every answer has an X-Request-Id",
        "README; what a user quotes when something is wrong",
    ),
    ours(
        "http.sessions",
        "interactive sessions are a 404 `sessions_not_supported`",
        "docs/errors.md; sparkmagic repeats a POST ten times on a 5xx",
    ),
    both(
        "auth.missing",
        "without a login a request is a 401 with a challenge",
        "RFC 9110 15.5.2; Azure's toolkit sends its password only then",
    ),
    both(
        "auth.wrong",
        "with a wrong login a request is a 401",
        "RFC 9110 15.5.2",
    ),
];

/// Writes the table of all checks, for the documentation.
pub fn markdown() -> String {
    let mut page = "| check | what must hold | source |\n| --- | --- | --- |\n".to_owned();
    for check in CHECKS {
        let says = match (check.livy, check.gateway) {
            (Some(livy), Some(gateway)) if livy == gateway => livy.to_owned(),
            (Some(livy), Some(gateway)) => {
                format!("**apache-livy**: {livy}<br>**gateway**: {gateway}")
            }
            (Some(livy), None) => format!("**apache-livy** only: {livy}"),
            (None, Some(gateway)) => format!("**gateway** only: {gateway}"),
            (None, None) => continue,
        };
        page.push_str(&format!("| `{}` | {says} | {} |\n", check.id, check.source));
    }
    page
}
