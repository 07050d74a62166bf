//! `pin_dir` of `[filter]`.

use std::path::Path;

use super::{parse, refusal};

#[test]
fn a_directory_for_pins_is_absolute() {
    let config = parse("[filter]\npin_dir = \"/sys/fs/bpf/resolver\"").unwrap();
    assert_eq!(config.filter.pin_dir.as_deref(), Some(Path::new("/sys/fs/bpf/resolver")));
    assert_eq!(parse("[filter]").unwrap().filter.pin_dir, None);
    let expected = "/etc/resolver/test.toml:2:11: pin_dir \"bpf/resolver\" must be an absolute path in a BPF file system, such as \
                    \"/sys/fs/bpf/resolver\"";
    assert_eq!(refusal("[filter]\npin_dir = \"bpf/resolver\""), expected);
}
