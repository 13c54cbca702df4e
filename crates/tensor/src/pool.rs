//! Threads that stay: for work that comes in pieces of microseconds, one after the other, as the products of a decoding step.
//!
//! A worker that has nothing to do spins for a moment and then parks, so the next piece starts within a microsecond while
//! a step runs, and an idle pool costs nothing. Which worker does which share is fixed by the number of items and of
//! threads. Large pieces of work, and those that want stealing, are left to `rayon`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a worker without work stays awake.
const AWAKE: Duration = Duration::from_micros(200);
/// Spins between two looks at the clock.
const SPINS: usize = 64;

/// A task with its lifetime taken off; [`Pool::run`] says why that is sound.
#[derive(Clone, Copy)]
struct Task(*const (dyn Fn(usize) + Sync));

// SAFETY: the pointee is `Sync`, and the pointer is only followed while `Pool::run` keeps it alive.
unsafe impl Send for Task {}

struct Shared {
    /// Counts the tasks; a worker starts when it changes.
    epoch: AtomicUsize,
    /// Workers that have not finished the present task.
    left: AtomicUsize,
    stop: AtomicBool,
    panicked: AtomicBool,
    /// The CPU each thread was seen on last.
    places: Vec<AtomicUsize>,
    task: Mutex<Option<Task>>,
    /// Workers that sleep, or are about to.
    sleepers: Mutex<usize>,
    wake: Condvar,
}

/// A fixed set of threads, the calling one among them.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held while a task runs: a second caller, or a task that calls the pool, does its work alone.
    busy: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` threads, at least one; the calling thread is one of them. Where the system refuses a thread,
    /// the pool is smaller.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            places: (0..threads.max(1)).map(|_| AtomicUsize::new(usize::MAX)).collect(),
            task: Mutex::new(None),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        });
        let mut workers = Vec::new();
        for worker in 1..threads {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name(format!("pool-{worker}"));
            let Ok(handle) = builder.spawn(move || shared.work(worker)) else { break };
            workers.push(handle);
        }
        Pool { shared, busy: Mutex::new(()), workers }
    }

    /// How many threads work, the caller among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `task(0)` to `task(threads − 1)`, each on its own thread, and waits for all of them.
    ///
    /// # Panics
    /// When a call of the task does.
    pub fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        let _busy = match self.busy.try_lock() {
            Ok(guard) => guard,
            // A task panicked: it left nothing half done here.
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => {
                (0..self.threads()).for_each(task);
                return;
            }
        };
        if self.workers.is_empty() {
            task(0);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes. Workers follow the pointer between the change of the epoch and their
        // decrement of `left`, and this function does not return or unwind before `left` is 0.
        let erased = Task(unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                task,
            )
        });
        *lock(&shared.task) = Some(erased);
        shared.places[0].store(place::current(), Ordering::Relaxed);
        shared.left.store(self.workers.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        if *lock(&shared.sleepers) > 0 {
            shared.wake.notify_all();
        }
        let own = catch_unwind(AssertUnwindSafe(|| task(0)));
        let mut spins = 0usize;
        while shared.left.load(Ordering::Acquire) > 0 {
            spins += 1;
            // With fewer cores than threads the worker may need this one.
            if spins.is_multiple_of(1 << 12) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        if let Err(payload) = own {
            shared.panicked.store(false, Ordering::Relaxed);
            resume_unwind(payload);
        }
        assert!(!shared.panicked.swap(false, Ordering::Relaxed), "a worker of the pool panicked");
    }

    /// Calls `task(i, item)` for every item. Worker `w` gets the `w`-th stretch of equal length.
    pub fn each<T: Send>(&self, items: &mut [T], task: impl Fn(usize, &mut T) + Sync) {
        struct Start<T>(*mut T);
        // SAFETY: workers use disjoint items, see below, and `T` may be sent to them.
        unsafe impl<T: Send> Sync for Start<T> {}
        let (count, start, threads) = (items.len(), Start(items.as_mut_ptr()), self.threads());
        self.run(&|worker| {
            let start = &start;
            for index in share(count, threads, worker) {
                // SAFETY: the index is below `count`, shares of different workers do not meet, and `items` is borrowed
                // exclusively until `run` returns.
                task(index, unsafe { &mut *start.0.add(index) });
            }
        });
    }
}

/// Who works on a product.
#[derive(Clone, Copy, Debug)]
pub enum Team<'a> {
    /// The calling thread: for products inside parallel work.
    One,
    /// All threads of a pool.
    All(&'a Pool),
}

/// The stretch of `0..count` that belongs to a worker; stretches differ by at most one in length.
pub fn share(count: usize, threads: usize, worker: usize) -> std::ops::Range<usize> {
    count * worker / threads..count * (worker + 1) / threads
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing is left half done under these locks, so a poisoned one is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn work(&self, worker: usize) {
        let mut seen = 0;
        while let Some(epoch) = self.next(seen) {
            seen = epoch;
            let task = *lock(&self.task);
            self.make_way(worker);
            if let Some(task) = task {
                // SAFETY: `Pool::run` waits for this worker's decrement before it lets go of the task.
                let call = catch_unwind(AssertUnwindSafe(|| unsafe { (*task.0)(worker) }));
                if call.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
            }
            self.left.fetch_sub(1, Ordering::Release);
        }
    }

    /// A system that wakes a thread likes to put it beside the one that woke it; two threads that wait for each other then
    /// share a CPU while another is idle. A worker that finds itself on the CPU of a thread before it moves away.
    fn make_way(&self, worker: usize) {
        let here = place::current();
        let mut taken = self.places[..worker].iter().map(|place| place.load(Ordering::Relaxed));
        if here != usize::MAX && taken.clone().any(|place| place == here) {
            place::leave(&mut taken);
        }
        self.places[worker].store(place::current(), Ordering::Relaxed);
    }

    /// Waits for another epoch than `seen`; `None` when the pool ends.
    fn next(&self, seen: usize) -> Option<usize> {
        let since = Instant::now();
        loop {
            for _ in 0..SPINS {
                let epoch = self.epoch.load(Ordering::Acquire);
                if epoch != seen {
                    return (!self.stop.load(Ordering::Relaxed)).then_some(epoch);
                }
                std::hint::spin_loop();
            }
            if since.elapsed() > AWAKE {
                break;
            }
        }
        let mut sleepers = lock(&self.sleepers);
        *sleepers += 1;
        while self.epoch.load(Ordering::SeqCst) == seen {
            sleepers = self.wake.wait(sleepers).unwrap_or_else(PoisonError::into_inner);
        }
        *sleepers -= 1;
        (!self.stop.load(Ordering::Relaxed)).then(|| self.epoch.load(Ordering::Acquire))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        drop(lock(&self.shared.sleepers));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of tasks; there is nothing to learn from its end.
            let _ = worker.join();
        }
    }
}

/// On which CPU a thread runs.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod place {
    /// 1024 CPUs, one bit each: glibc's `cpu_set_t`.
    type Set = [u64; 16];

    // SAFETY: the declarations are those of glibc's sched.h.
    unsafe extern "C" {
        fn sched_getcpu() -> i32;
        fn sched_getaffinity(pid: i32, size: usize, set: *mut Set) -> i32;
        fn sched_setaffinity(pid: i32, size: usize, set: *const Set) -> i32;
    }

    /// The present CPU; `usize::MAX` where the system does not tell.
    pub fn current() -> usize {
        // SAFETY: takes nothing and returns a number.
        usize::try_from(unsafe { sched_getcpu() }).unwrap_or(usize::MAX)
    }

    /// Moves this thread to a CPU that the process may use and that is not `taken`; stays where there is none.
    pub fn leave(taken: &mut dyn Iterator<Item = usize>) {
        let mut set: Set = [0; 16];
        // The process's own set, so that what was taken earlier can be used again.
        let process = i32::try_from(std::process::id()).unwrap_or(0);
        // SAFETY: the set has the size that is stated.
        if unsafe { sched_getaffinity(process, size_of::<Set>(), &mut set) } != 0 {
            return;
        }
        taken.filter(|&cpu| cpu < 1024).for_each(|cpu| set[cpu / 64] &= !(1 << (cpu % 64)));
        if set != [0; 16] {
            // SAFETY: as above; 0 is this thread. A refusal leaves it where it is.
            unsafe { sched_setaffinity(0, size_of::<Set>(), &set) };
        }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod place {
    /// Not known here.
    pub fn current() -> usize {
        usize::MAX
    }

    /// Not done here.
    pub fn leave(_: &mut dyn Iterator<Item = usize>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_visited_once_in_fixed_shares() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for count in [0, 1, 4, 103] {
                for pause in [0, 1] {
                    std::thread::sleep(Duration::from_millis(pause));
                    let mut items = vec![0usize; count];
                    pool.each(&mut items, |i, item| *item += i + 1);
                    assert!(
                        items.iter().enumerate().all(|(i, &v)| v == i + 1),
                        "{threads} threads: {items:?}"
                    );
                }
            }
            assert_eq!((share(7, 2, 0), share(7, 2, 1)), (0..3, 3..7));
        }
    }

    #[test]
    fn many_small_tasks_and_a_task_within_a_task() {
        let pool = Pool::new(3);
        let mut total = vec![0u64; 3];
        for round in 0..2000u64 {
            pool.each(&mut total, |_, t| *t += round);
        }
        assert_eq!(total, [1999 * 1000; 3]);
        pool.each(&mut total, |_, t| {
            let mut inner = [1u64; 4];
            pool.each(&mut inner, |_, v| *v += 1);
            *t = inner.iter().sum();
        });
        assert_eq!(total, [8; 3]);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        for bad in [0, 1] {
            let run = catch_unwind(AssertUnwindSafe(|| pool.run(&|worker| assert_ne!(worker, bad))));
            assert!(run.is_err(), "worker {bad}");
        }
        let mut items = [None; 2];
        pool.each(&mut items, |_, item| *item = Some(std::thread::current().id()));
        assert!(
            items[0].is_some() && items[1].is_some() && items[0] != items[1],
            "both threads work: {items:?}"
        );
    }
}
