//! Calls of a master on two workers, for tests.

/// What a master asked two workers through a whole day's work, and what they answered: recorded
/// from a cluster of the existing workers (October 2026).
const CALLS: &str = include_str!("../../../core/testdata/golden/grpc-calls.txt");

/// A question and its answer.
pub(crate) struct Call {
    /// Step, worker and method.
    pub(crate) title: &'static str,
    /// Name of the method.
    pub(crate) method: &'static str,
    /// The encoded question.
    pub(crate) request: Vec<u8>,
    /// The encoded answer.
    pub(crate) response: Vec<u8>,
}

/// All of them, in order.
pub(crate) fn calls() -> Vec<Call> {
    let bytes = |text: &str| -> Vec<u8> {
        let digits = text.as_bytes().chunks(2).filter(|_| text != "-");
        digits
            .map(|d| u8::from_str_radix(str::from_utf8(d).unwrap(), 16).unwrap())
            .collect()
    };
    let mut calls = Vec::new();
    for block in CALLS.split("## ").skip(1) {
        let mut lines = block.lines();
        let title = lines.next().unwrap();
        let find = |prefix| block.lines().find_map(|line| line.strip_prefix(prefix));
        calls.push(Call {
            title,
            method: title.rsplit_once('/').unwrap().1,
            request: bytes(find("request ").unwrap()),
            response: bytes(find("response ").unwrap_or("-")),
        });
    }
    calls
}
