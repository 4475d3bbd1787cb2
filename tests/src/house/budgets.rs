//! Budgets: lines of a file, lines of a function, parameters of a function. Its receiver is not counted among its parameters.

use super::Violation;
use super::source::Source;
use super::tokens::{Kind, Token};

/// Lines of a file, tests included.
pub const FILE_LINES_MAX: usize = 400;
/// Lines of a function, from `fn` to its closing brace.
pub const FUNCTION_LINES_MAX: usize = 60;
/// Parameters of a function.
pub const PARAMETERS_MAX: usize = 5;

/// What is over its budget.
pub fn violations(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        let mut report = |line: usize, what: String| found.push(Violation { file: source.path.clone(), line, what });
        if source.lines.len() > FILE_LINES_MAX {
            report(1, format!("the file has {} lines of {FILE_LINES_MAX}", source.lines.len()));
        }
        for function in functions(&source.tokens) {
            if function.lines > FUNCTION_LINES_MAX {
                report(function.line, format!("the function `{}` has {} lines of {FUNCTION_LINES_MAX}", function.name, function.lines));
            }
            if function.parameters > PARAMETERS_MAX {
                report(
                    function.line,
                    format!("the function `{}` has {} parameters of {PARAMETERS_MAX}", function.name, function.parameters),
                );
            }
        }
    }
    found
}

/// A function that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Function {
    name: String,
    line: usize,
    lines: usize,
    parameters: usize,
}

/// All functions with a name.
fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = tokens.get(at + 1).filter(|next| token.is_word("fn") && next.kind == Kind::Word) else { continue };
        let Some((parameters, end)) = parameters(tokens, at + 2) else { continue };
        // The body, or the semicolon of a declaration, whichever comes first.
        let body = tokens[end..].iter().position(|token| token.is_mark("{") || token.is_mark(";")).map(|ahead| end + ahead);
        let last = body.and_then(|body| if tokens[body].is_mark(";") { Some(body) } else { closing(tokens, body, "{", "}") });
        let Some(last) = last else { continue };
        found.push(Function { name: name.text.clone(), line: token.line, lines: tokens[last].line - token.line + 1, parameters });
    }
    found
}

/// Counts the parameters of the list that opens at or behind a token, and gives where the list ends.
fn parameters(tokens: &[Token], from: usize) -> Option<(usize, usize)> {
    let mut at = from;
    if tokens.get(at)?.is_mark("<") {
        let mut depth = 0;
        loop {
            let token = tokens.get(at)?;
            depth += i32::from(token.is_mark("<")) - i32::from(token.is_mark(">"));
            at += 1;
            if depth == 0 {
                break;
            }
        }
    }
    if !tokens.get(at)?.is_mark("(") {
        return None;
    }
    let end = closing(tokens, at, "(", ")")?;
    let inside = &tokens[at + 1..end];
    // A parameter has one `:` that stands in no bracket of any kind; patterns and closures in types have theirs inside.
    let mut depth = 0;
    let mut count = 0;
    for token in inside {
        match token.text.as_str() {
            _ if token.kind != Kind::Mark => {}
            "(" | "[" | "{" | "<" => depth += 1,
            ")" | "]" | "}" | ">" => depth -= 1,
            ":" if depth == 0 => count += 1,
            _ => {}
        }
    }
    let own = inside.windows(2).take(4).any(|pair| pair[0].is_word("self") && pair[1].is_mark(":"));
    Some((count - usize::from(own), end))
}

/// Where the bracket that opens at a token closes.
fn closing(tokens: &[Token], from: usize, open: &str, close: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(from) {
        depth += i32::from(token.is_mark(open)) - i32::from(token.is_mark(close));
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::functions;
    use crate::house::tokens::tokens;

    fn parameters(text: &str) -> usize {
        functions(&tokens(text))[0].parameters
    }

    #[test]
    fn parameters_are_counted_and_the_receiver_is_not() {
        assert_eq!(parameters("fn f() {}"), 0);
        assert_eq!(parameters("fn f<T: Fn(u8) -> u8>(&mut self, a: u8, (b, c): (u8, u8), d: HashMap<A, B>) -> u8 { 1 }"), 3);
        assert_eq!(parameters("fn f(self: Box<Self>, g: impl FnOnce(u8, u8) -> Option<T>,) ;"), 1);
    }

    #[test]
    fn lines_are_counted_from_fn_to_the_closing_brace() {
        let found = functions(&tokens("struct A;\nfn f() {\n  if x {\n  }\n}\nfn g();"));
        assert_eq!(found.iter().map(|function| (function.line, function.lines)).collect::<Vec<_>>(), [(2, 4), (6, 1)]);
    }
}
