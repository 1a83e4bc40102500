//! In: hand-made BTF and any bytes. Out: proof that the reader finds members and never panics.
//! Must not depend on the running kernel, except where it says so and skips without one.
use proptest::prelude::*;

use super::*;

/// Builds BTF type by type; ids count from 1.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        self.types
            .extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }

    fn add(&mut self, kind: u32, name: &str, refers: u32) {
        let name = self.name(name);
        self.words(&[name, kind << 24, refers]);
    }

    fn aggregate(&mut self, kind: u32, name: &str, bitfields: bool, members: &[(&str, u32, u32)]) {
        let name = self.name(name);
        let flag = u32::from(bitfields) << 31;
        self.words(&[name, flag | (kind << 24) | members.len() as u32, 64]);
        for (name, id, bits) in members {
            let name = self.name(name);
            self.words(&[name, *id, *bits]);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let types = self.types.len() as u32;
        for word in [
            HEADER_LEN as u32,
            0,
            types,
            types,
            self.strings.len() as u32,
        ] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        bytes
    }

    fn parse(&self) -> Btf {
        Btf::parse(self.bytes()).expect("the builder makes valid BTF")
    }
}

/// struct sock { int plain; struct { union { T sk_err; bits } }; T sk_cgrp_data }, T = { cgroup }.
fn sock() -> Btf {
    let mut b = Builder::default();
    b.name("");
    let int = b.name("int");
    b.words(&[int, kind::INT << 24, 4, 32]); // 1
    b.aggregate(
        kind::STRUCT,
        "data",
        false,
        &[("pad", 1, 0), ("cgroup", 1, 64)],
    ); // 2
    b.add(kind::TYPEDEF, "data_t", 2); // 3
    b.add(kind::CONST, "", 3); // 4
    b.aggregate(kind::UNION, "", false, &[("sk_err", 1, 0), ("other", 1, 0)]); // 5
    b.aggregate(kind::STRUCT, "", false, &[("x", 1, 0), ("", 5, 32)]); // 6
    b.aggregate(
        kind::STRUCT,
        "sock",
        true,
        &[
            ("plain", 1, 0),
            ("", 6, 128),
            ("sk_cgrp_data", 4, 320),
            ("bit", 1, (3 << 24) | 5),
        ],
    ); // 7
    b.words(&[0, (kind::FUNC_PROTO << 24) | 4, 0, 0, 0, 0, 1, 0, 1, 0, 1]); // 8
    b.add(kind::PTR, "", 8); // 9
    b.add(kind::TYPEDEF, "btf_trace_inet_sock_set_state", 9); // 10
    b.parse()
}

#[test]
fn members_are_found_through_anonymous_structs_typedefs_and_qualifiers() {
    let btf = sock();
    assert_eq!(btf.offset("sock", "plain"), Some(0));
    assert_eq!(btf.offset("sock", "sk_err"), Some(20));
    assert_eq!(btf.offset("sock", "sk_cgrp_data.cgroup"), Some(48));
}

#[test]
fn what_is_not_there_or_no_whole_byte_has_no_offset() {
    let btf = sock();
    assert_eq!(btf.offset("sock", "absent"), None);
    assert_eq!(btf.offset("absent", "plain"), None);
    assert_eq!(btf.offset("sock", "plain.inner"), None);
    assert_eq!(btf.offset("sock", "bit"), None);
    assert_eq!(btf.offset("sock", ""), None);
}

#[test]
fn a_tracepoint_has_its_arguments_without_the_tracers_own() {
    assert_eq!(sock().tracepoint_args("inet_sock_set_state"), Some(3));
    assert_eq!(sock().tracepoint_args("sched_switch"), None);
}

#[test]
fn types_that_contain_themselves_end_the_search() {
    let mut b = Builder::default();
    let inner: Vec<_> = (0..200).map(|_| ("", 1, 0)).collect();
    b.aggregate(kind::STRUCT, "sock", false, &inner);
    b.add(kind::TYPEDEF, "btf_trace_loop", 2);
    let btf = b.parse();
    assert_eq!(btf.offset("sock", "sk_err"), None);
    assert_eq!(btf.tracepoint_args("loop"), None);
}

#[test]
fn a_missing_member_is_named_with_its_struct() {
    let error = offsets(&sock())
        .expect_err("the fake kernel lacks most members")
        .to_string();
    assert!(
        error.contains("vfs_inode.i_ino in struct socket_alloc"),
        "{error}"
    );
}

#[test]
fn what_is_no_btf_is_an_error_that_says_so() {
    for (bytes, words) in [
        (vec![], "shorter"),
        (vec![0; 24], "magic"),
        (sock().bytes[..100].to_vec(), "leave the file"),
    ] {
        let error = Btf::parse(bytes).expect_err("not BTF").to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn an_unknown_kind_is_an_error_that_names_it() {
    let mut b = Builder::default();
    b.add(31, "", 0);
    let error = Btf::parse(b.bytes())
        .expect_err("kind 31 does not exist")
        .to_string();
    assert!(error.contains("kind 31"), "{error}");
}

#[test]
fn the_running_kernel_has_every_offset() {
    let path = Path::new(VMLINUX);
    if !path.exists() {
        return;
    }
    let btf = Btf::load(path).expect("the running kernel's BTF parses");
    let config = offsets(&btf).expect("every member exists");
    assert!(
        config.sk_err > 0 && config.task_comm > 0 && config.inode > 0,
        "{config:?}"
    );
    assert_eq!(btf.tracepoint_args("inet_sock_set_state"), Some(3));
}

fn query(btf: &Btf) {
    let _ = btf.offset("sock", "sk_cgrp_data.cgroup");
    let _ = btf.offset("sock", "absent");
    let _ = btf.tracepoint_args("inet_sock_set_state");
    let _ = offsets(btf);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        if let Ok(btf) = Btf::parse(bytes) {
            query(&btf);
        }
    }

    #[test]
    fn no_types_behind_a_valid_header_make_it_panic(types: Vec<u8>, strings: Vec<u8>) {
        let builder = Builder { types, strings };
        if let Ok(btf) = Btf::parse(builder.bytes()) {
            query(&btf);
        }
    }

    #[test]
    fn no_changed_byte_makes_it_panic(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = sock().bytes;
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if let Ok(btf) = Btf::parse(bytes) {
            query(&btf);
        }
    }
}
