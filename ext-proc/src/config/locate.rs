//! Lines of paths. The YAML parser gives values without positions; this finds the line of a path in block style
//! by indentation, and of flow style or anything odd at least the nearest line above.

use super::issue::Seg;

struct Frame {
    indent: usize,
    seg: Seg,
}

/// 1-based line of `path`, or of its nearest ancestor that can be found.
pub(super) fn line_of(text: &str, path: &[Seg]) -> Option<usize> {
    let mut stack: Vec<Frame> = Vec::new();
    let mut best: Option<(usize, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') || content == "---" {
            continue;
        }
        let Some(first_new) = enter(&mut stack, line.len() - content.len(), content) else { continue };
        let common = stack.iter().zip(path).take_while(|(frame, seg)| frame.seg == **seg).count();
        // A line may begin several nodes (`- a:`): it is the line of each of them.
        if common > first_new && best.is_none_or(|(depth, _)| common > depth) {
            best = Some((common, number + 1));
            if common == path.len() {
                break;
            }
        }
    }
    best.filter(|(depth, _)| *depth > 0).map(|(_, line)| line)
}

/// Brings the stack to the node that a line begins; returns where the frames that are new begin.
fn enter(stack: &mut Vec<Frame>, mut indent: usize, mut content: &str) -> Option<usize> {
    let mut first_new = None;
    while let Some(rest) = content.strip_prefix('-').filter(|rest| rest.is_empty() || rest.starts_with(' ')) {
        while stack.last().is_some_and(|top| top.indent > indent) {
            stack.pop();
        }
        let next = match stack.last() {
            Some(Frame { indent: at, seg: Seg::Index(index) }) if *at == indent => {
                let next = index + 1;
                stack.pop();
                next
            }
            _ => 0,
        };
        first_new.get_or_insert(stack.len());
        stack.push(Frame { indent, seg: Seg::Index(next) });
        content = rest.trim_start();
        indent += 1 + (rest.len() - content.len());
    }
    if let Some(name) = key_of(content) {
        while stack.last().is_some_and(|top| top.indent >= indent) {
            stack.pop();
        }
        first_new.get_or_insert(stack.len());
        stack.push(Frame { indent, seg: Seg::Key(name.to_owned()) });
    }
    first_new
}

fn key_of(content: &str) -> Option<&str> {
    let end = content
        .match_indices(':')
        .map(|(at, _)| at)
        .find(|at| content.as_bytes().get(at + 1).is_none_or(|next| next.is_ascii_whitespace()))?;
    let name = content.get(..end)?.trim();
    Some(name.trim_matches(['"', '\'']))
}
