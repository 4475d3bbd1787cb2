//! Rust text as tokens: identifiers, punctuation and literals with their lines. Comments fall away; what stands in a string never looks like code.

/// A token and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Its text; of a literal what stands between the quotes.
    pub text: String,
    /// Its line, from 1.
    pub line: usize,
}

/// Kinds of token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An identifier or keyword; a raw identifier without its `r#`.
    Word,
    /// `::`, `->`, `=>`, or one other character.
    Mark,
    /// A string, byte string or character.
    Literal,
    /// A lifetime.
    Lifetime,
}

impl Token {
    /// Whether it is this word.
    pub fn is_word(&self, text: &str) -> bool {
        self.kind == Kind::Word && self.text == text
    }

    /// Whether it is this mark.
    pub fn is_mark(&self, text: &str) -> bool {
        self.kind == Kind::Mark && self.text == text
    }
}

/// The tokens of a file.
pub fn tokens(text: &str) -> Vec<Token> {
    Reader { chars: text.chars().collect(), at: 0, line: 1, out: Vec::new() }.run()
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    out: Vec<Token>,
}

impl Reader {
    fn run(mut self) -> Vec<Token> {
        while let Some(c) = self.peek(0) {
            match c {
                '/' if self.peek(1) == Some('/') => self.skip_line(),
                '/' if self.peek(1) == Some('*') => self.skip_block(),
                '"' => self.string(0),
                '\'' => self.quote(),
                'r' | 'b' | 'c' if self.raw_or_prefixed() => {}
                c if c.is_alphanumeric() || c == '_' => self.word(),
                c if c.is_whitespace() => self.advance(),
                _ => self.mark(),
            }
        }
        self.out
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn advance(&mut self) {
        if self.peek(0) == Some('\n') {
            self.line += 1;
        }
        self.at += 1;
    }

    fn push(&mut self, kind: Kind, text: String, line: usize) {
        self.out.push(Token { kind, text, line });
    }

    fn skip_line(&mut self) {
        while self.peek(0).is_some_and(|c| c != '\n') {
            self.advance();
        }
    }

    /// Block comments nest.
    fn skip_block(&mut self) {
        let mut depth = 0;
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('/', Some('*')) => depth += 1,
                ('*', Some('/')) => depth -= 1,
                _ => {
                    self.advance();
                    continue;
                }
            }
            self.advance();
            self.advance();
            if depth == 0 {
                return;
            }
        }
    }

    /// A string from its opening quote on; `hashes` > 0 or a caller that has skipped an `r` means raw.
    fn string(&mut self, skipped: usize) {
        let line = self.line;
        (0..=skipped).for_each(|_| self.advance());
        let start = self.at;
        while let Some(c) = self.peek(0) {
            match c {
                '"' => break,
                '\\' => {
                    self.advance();
                    self.advance();
                }
                _ => self.advance(),
            }
        }
        self.push(Kind::Literal, self.chars[start..self.at.min(self.chars.len())].iter().collect(), line);
        self.advance();
    }

    fn raw_string(&mut self, skipped: usize, hashes: usize) {
        let line = self.line;
        (0..=skipped + hashes).for_each(|_| self.advance());
        let start = self.at;
        let closes = |reader: &Self| reader.peek(0) == Some('"') && (1..=hashes).all(|ahead| reader.peek(ahead) == Some('#'));
        while self.peek(0).is_some() && !closes(self) {
            self.advance();
        }
        self.push(Kind::Literal, self.chars[start..self.at].iter().collect(), line);
        (0..=hashes).for_each(|_| self.advance());
    }

    /// `r"`, `r#"`, `br"`, `b"`, `c"`, `b'`, and `r#word`.
    fn raw_or_prefixed(&mut self) -> bool {
        let mut prefix = 0;
        while matches!(self.peek(prefix), Some('r' | 'b' | 'c')) && prefix < 2 {
            prefix += 1;
        }
        let is_raw = self.peek(prefix.saturating_sub(1)) == Some('r');
        let hashes = (prefix..).take_while(|ahead| self.peek(*ahead) == Some('#')).count();
        match self.peek(prefix + hashes) {
            Some('"') if is_raw => self.raw_string(prefix, hashes),
            Some('"') if hashes == 0 => self.string(prefix),
            Some('\'') if hashes == 0 && prefix == 1 && self.peek(0) == Some('b') => {
                self.advance();
                self.quote();
            }
            Some(c) if hashes == 1 && prefix == 1 && is_raw && (c.is_alphabetic() || c == '_') => {
                self.advance();
                self.advance();
                self.word();
            }
            _ => return false,
        }
        true
    }

    /// A character or a lifetime: it is a character if it is escaped or if a quote follows the next one.
    fn quote(&mut self) {
        let line = self.line;
        if self.peek(1) == Some('\\') || self.peek(2) == Some('\'') {
            self.advance();
            let start = self.at;
            if self.peek(0) == Some('\\') {
                self.advance();
            }
            self.advance();
            while self.peek(0).is_some_and(|c| c != '\'') {
                self.advance();
            }
            self.push(Kind::Literal, self.chars[start..self.at.min(self.chars.len())].iter().collect(), line);
            self.advance();
            return;
        }
        self.advance();
        let start = self.at;
        while self.peek(0).is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.advance();
        }
        self.push(Kind::Lifetime, self.chars[start..self.at].iter().collect(), line);
    }

    fn word(&mut self) {
        let (start, line) = (self.at, self.line);
        while self.peek(0).is_some_and(|c| c.is_alphanumeric() || c == '_') {
            self.advance();
        }
        self.push(Kind::Word, self.chars[start..self.at].iter().collect(), line);
    }

    fn mark(&mut self) {
        let line = self.line;
        let pair: String = self.chars[self.at..(self.at + 2).min(self.chars.len())].iter().collect();
        let length = if matches!(pair.as_str(), "::" | "->" | "=>") { 2 } else { 1 };
        self.push(Kind::Mark, pair.chars().take(length).collect(), line);
        (0..length).for_each(|_| self.advance());
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, tokens};

    fn words(text: &str) -> Vec<String> {
        tokens(text).into_iter().filter(|token| token.kind == Kind::Word).map(|token| token.text).collect()
    }

    #[test]
    fn nothing_in_comments_and_literals_is_code() {
        assert_eq!(words("// use aya\n/* a /* b */ c */ x"), ["x"]);
        assert_eq!(words(r####"a r#"use "aya"# b "\"use" 'u' b'\'' '\u{41}' c"####), ["a", "b", "c"]);
        assert_eq!(words("fn f<'a>(x: &'a str) -> &'static str"), ["fn", "f", "x", "str", "str"]);
        assert_eq!(words("r#match bar br\"x\" b\"y\" cr#\"z\"# end"), ["match", "bar", "end"]);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let lines: Vec<usize> = tokens("a\n/*\n*/ b \"x\ny\" c").into_iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3, 3, 4]);
    }
}
