//! What Knox and HDInsight add to a Livy.

use serde_json::{Value, json};

use super::bare::livy;
use crate::sandbox::accounts::{basic, has_account};
use crate::sandbox::asked::{Asked, says_form};
use crate::sandbox::double::Double;
use crate::sandbox::told::Told;

const REMEMBER_ME: &str = "rememberMe=deleteMe; Path=/gateway/default; Max-Age=0; SameSite=lax";
const KNOX_SESSION: &str =
    "KNOXSESSIONID=node0sandbox0session.node0; Path=/gateway/default; Secure; HttpOnly";

/// Shiro first: a wrong login gets an empty 401. Then `LivyDispatch`, which reads the body and sets
/// `proxyUser`.
pub(super) fn knox(double: &Double, asked: &Asked) -> Told {
    if !has_account(&asked.headers) {
        let refused =
            Told::new(401, "", "").with("www-authenticate", "BASIC realm=\"application\"");
        return if basic(&asked.headers).is_some() {
            refused.with("set-cookie", REMEMBER_ME)
        } else {
            refused
        };
    }
    let submits = asked.method == "POST" && asked.path() == ["batches"];
    let told = match unreadable(asked).filter(|_| submits) {
        Some(page) => Told::new(500, "application/json", page.to_string()),
        // Knox rewrites paths: slashes at the end and side by side are gone.
        None => livy(
            double,
            &Asked {
                slash: false,
                doubled_slash: false,
                ..asked.clone()
            },
        ),
    };
    told.with("set-cookie", KNOX_SESSION)
        .with("set-cookie", REMEMBER_ME)
}

/// Returns Knox's page for a body that its dispatch can't read: the same text under every cause,
/// each wrapped once more.
fn unreadable(asked: &Asked) -> Option<Value> {
    // A form arrives at the dispatch rewritten, as a form.
    let deepest = match serde_json::from_slice::<Value>(&asked.body) {
        _ if says_form(&asked.headers) => {
            "com.fasterxml.jackson.core.JsonParseException: Unexpected character ('%' (code 37))"
                .to_owned()
        }
        Ok(Value::Object(_)) => return None,
        Ok(Value::Null) => {
            "javax.servlet.ServletException: java.lang.NullPointerException".to_owned()
        }
        Ok(_) => "com.fasterxml.jackson.databind.exc.MismatchedInputException: no map".to_owned(),
        Err(error) => format!("com.fasterxml.jackson.core.JsonParseException: {error}"),
    };
    let wrappers = [
        "java.security.PrivilegedActionException",
        "org.apache.shiro.subject.ExecutionException",
        "javax.servlet.ServletException",
        "javax.servlet.ServletException",
    ];
    let mut texts = vec![deepest];
    if let Some(inner) = texts[0]
        .strip_prefix("javax.servlet.ServletException: ")
        .map(str::to_owned)
    {
        texts.insert(0, inner);
    }
    for wrapper in wrappers {
        texts.push(format!("{wrapper}: {}", texts[texts.len() - 1]));
    }
    let mut page = json!({"servlet": "default-knox-gateway-servlet", "url": "/gateway/default/livy/batches", "status": "500"});
    page["message"] = texts[texts.len() - 1].clone().into();
    for (at, text) in texts.into_iter().rev().enumerate() {
        page[format!("cause{at}")] = text.into();
    }
    Some(page)
}

pub(super) fn hdinsight(double: &Double, asked: &Asked) -> Told {
    if !has_account(&asked.headers) {
        return Told::new(
            401,
            "text/html",
            "<html><head><title>401 - Unauthorized</title></head></html>",
        )
        .with("www-authenticate", "Basic realm=\"cluster\"");
    }
    livy(double, asked)
        .with("server", "Microsoft-IIS/8.5")
        .with("x-powered-by", "ARR/2.5")
}
