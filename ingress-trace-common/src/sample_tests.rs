//! In: any bytes. Out: proof that a sample is its bytes, and that nothing of another size is one.
extern crate std;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_sample_is_its_bytes(bytes in prop::collection::vec(any::<u8>(), SIZE)) {
        let sample = Sample::from_bytes(&bytes).expect("the size of a sample");
        prop_assert_eq!(&sample.as_bytes()[..], &bytes[..]);
    }

    #[test]
    fn bytes_of_another_size_are_no_sample(bytes in prop::collection::vec(any::<u8>(), 0..2 * SIZE)) {
        prop_assert_eq!(Sample::from_bytes(&bytes).is_some(), bytes.len() == SIZE);
    }
}

#[test]
fn a_sample_may_lie_anywhere_in_a_buffer() {
    let mut bytes = std::vec![0; SIZE + 1];
    bytes[1..9].copy_from_slice(&7u64.to_ne_bytes());
    assert_eq!(
        Sample::from_bytes(&bytes[1..])
            .expect("the size of a sample")
            .time,
        7
    );
}
