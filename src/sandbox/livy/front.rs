//! What Knox and HDInsight add to a Livy.

use serde_json::{Map, Value, json};

use super::livy;
use crate::sandbox::{Asked, Double, Told, basic, has_account};

const REMEMBER_ME: &str = "rememberMe=deleteMe; Path=/gateway/default; Max-Age=0; SameSite=lax";
const KNOX_SESSION: &str = "KNOXSESSIONID=node0sandbox0session.node0; Path=/gateway/default; Secure; HttpOnly";

/// Shiro first: a wrong login gets an empty 401. Then `LivyDispatch`, which reads the body and sets `proxyUser`.
pub(super) fn knox(double: &Double, asked: &Asked) -> Told {
    if !has_account(&asked.headers) {
        let refused = Told::new(401, "", "").with("www-authenticate", "BASIC realm=\"application\"");
        return if basic(&asked.headers).is_some() { refused.with("set-cookie", REMEMBER_ME) } else { refused };
    }
    let told = match serde_json::from_slice::<Map<String, Value>>(&asked.body) {
        Err(error) if asked.method == "POST" => Told::new(500, "application/json", unreadable(&error).to_string()),
        _ => livy(double, asked),
    };
    told.with("set-cookie", KNOX_SESSION).with("set-cookie", REMEMBER_ME)
}

/// Knox's page for a body that its dispatch can't read: the same text under every cause.
fn unreadable(error: &serde_json::Error) -> Value {
    let deepest = format!("com.fasterxml.jackson.core.JsonParseException: {error}");
    let mut page = json!({"servlet": "default-knox-gateway-servlet", "url": "/gateway/default/livy/batches", "status": "500"});
    let wrappers = [
        "java.security.PrivilegedActionException",
        "org.apache.shiro.subject.ExecutionException",
        "javax.servlet.ServletException",
        "javax.servlet.ServletException",
    ];
    let mut text = deepest;
    page["cause4"] = text.clone().into();
    for (cause, wrapper) in ["cause3", "cause2", "cause1", "cause0"].into_iter().zip(wrappers) {
        text = format!("{wrapper}: {text}");
        page[cause] = text.clone().into();
    }
    page["message"] = text.into();
    page
}

pub(super) fn hdinsight(double: &Double, asked: &Asked) -> Told {
    if !has_account(&asked.headers) {
        return Told::new(401, "text/html", "<html><head><title>401 - Unauthorized</title></head></html>")
            .with("www-authenticate", "Basic realm=\"cluster\"");
    }
    livy(double, asked).with("server", "Microsoft-IIS/8.5").with("x-powered-by", "ARR/2.5")
}
