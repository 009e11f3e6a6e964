//! Spins in a method of a trait. rustc -C force-frame-pointers=yes -C opt-level=1
use std::hint::black_box;

mod orchard {
    use std::hint::black_box;

    pub trait Fruit {
        fn ripen(&self, days: u64) -> u64;
    }

    pub struct Apple(pub u64);

    impl Fruit for Apple {
        #[inline(never)]
        fn ripen(&self, days: u64) -> u64 {
            let mut sugar = self.0;
            for day in 0..days {
                sugar = black_box(sugar.wrapping_mul(31).wrapping_add(day));
            }
            sugar
        }
    }
}

fn main() {
    use orchard::Fruit;
    let apple = orchard::Apple(black_box(1));
    loop {
        black_box(apple.ripen(2_000_000));
    }
}
