//! What threads meet at: locks, atomics, and a pointer that is swapped under its readers.
//!
//! In tests with the feature `loom` they are loom's, which runs a model under every order of its threads' steps and every
//! value that the memory model lets a load see. Everything that decides about freshness or wakes a connection takes them
//! from here.

#[cfg(not(all(test, feature = "loom")))]
pub use self::real::*;

#[cfg(all(test, feature = "loom"))]
pub use self::modelled::*;

#[cfg(not(all(test, feature = "loom")))]
mod real {
    pub use std::sync::atomic::AtomicU64;
    pub use std::sync::{Mutex, MutexGuard, RwLock};

    pub use arc_swap::ArcSwap as Swap;
}

#[cfg(all(test, feature = "loom"))]
mod modelled {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    pub use loom::sync::{Mutex, MutexGuard, RwLock};

    thread_local! {
        static WEAKENED: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs a model under all orders with up to three preemptions: nearly all races show with two, and the number of
    /// orders grows with each.
    pub fn explore(model: impl Fn() + Sync + Send + 'static) {
        WEAKENED.set(false);
        run(model);
    }

    /// The same with every ordering of an atomic taken away, which a model that is worth anything notices.
    pub fn explore_weakened(model: impl Fn() + Sync + Send + 'static) {
        WEAKENED.set(true);
        run(model);
    }

    fn run(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.max_branches = 10_000;
        builder.check(model);
    }

    fn effective(order: Ordering) -> Ordering {
        if WEAKENED.get() { Ordering::Relaxed } else { order }
    }

    #[derive(Debug, Default)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn new(value: u64) -> Self {
            Self(loom::sync::atomic::AtomicU64::new(value))
        }

        pub fn load(&self, order: Ordering) -> u64 {
            self.0.load(effective(order))
        }

        pub fn store(&self, value: u64, order: Ordering) {
            self.0.store(value, effective(order));
        }

        pub fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
            self.0.fetch_max(value, effective(order))
        }
    }

    /// What `arc_swap` promises, and no more: a load that sees a pointer sees what was written before its store.
    #[derive(Debug)]
    pub struct Swap<T> {
        /// Every value that there ever was. Known to the model by its number alone.
        values: std::sync::Mutex<Vec<Arc<T>>>,
        newest: AtomicUsize,
    }

    type AtomicUsize = loom::sync::atomic::AtomicUsize;

    impl<T> Swap<T> {
        pub fn from_pointee(value: T) -> Self {
            Self { values: std::sync::Mutex::new(vec![Arc::new(value)]), newest: AtomicUsize::new(0) }
        }

        pub fn load_full(&self) -> Arc<T> {
            let number = self.newest.load(effective(Ordering::Acquire));
            Arc::clone(&self.values.lock().unwrap()[number])
        }

        pub fn load(&self) -> Arc<T> {
            self.load_full()
        }

        pub fn store(&self, value: Arc<T>) {
            let number = {
                let mut values = self.values.lock().unwrap();
                values.push(value);
                values.len() - 1
            };
            // One writer at a time stores, so the numbers rise as the stores do.
            self.newest.store(number, effective(Ordering::Release));
        }
    }
}
