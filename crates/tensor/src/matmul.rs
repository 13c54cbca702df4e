//! Matrix products on strided views, through the `gemm` crate.
//!
//! Bounds are checked here before pointers are handed to the library, so callers stay safe code.

use gemm::Parallelism;

/// Multiplications of a product that one thread does alone.
const SMALL: usize = 1 << 18;

/// A read-only matrix view: element (i, j) is `data[i · row_stride + j · column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix `[rows, columns]` that fills `data` exactly.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(columns), "matrix of {rows} × {columns}");
        Mat { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// Rows of `columns` values that start `row_stride` apart, the first at the start of `data`.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        check(data.len(), rows, columns, row_stride);
        Mat { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// `(rows, columns)`.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Element (i, j).
    ///
    /// # Panics
    /// When it lies outside of the data.
    pub fn get(&self, i: usize, j: usize) -> f32 {
        self.data[i * self.row_stride + j * self.column_stride]
    }

    /// Row `i` as a slice.
    ///
    /// # Panics
    /// When rows are not contiguous.
    pub fn row(&self, i: usize) -> &'a [f32] {
        assert_eq!(self.column_stride, 1, "rows of a transposed view are not contiguous");
        &self.data[i * self.row_stride..][..self.columns]
    }

    /// Some columns, without moving anything.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn columns(self, range: std::ops::Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.columns,
            "columns {range:?} of {}",
            self.columns
        );
        let start = (range.start * self.column_stride).min(self.data.len());
        Mat { data: &self.data[start..], columns: range.len(), ..self }
    }

    /// Column `j` as a slice, where columns are contiguous: in the transpose of a row-major matrix.
    pub fn column(&self, j: usize) -> Option<&'a [f32]> {
        (self.row_stride == 1 && self.column_stride > 1)
            .then(|| &self.data[j * self.column_stride..][..self.rows])
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Mat {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// A writable matrix view with contiguous rows.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A row-major matrix `[rows, columns]` that fills `data` exactly.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(columns), "matrix of {rows} × {columns}");
        MatMut { data, rows, columns, row_stride: columns }
    }

    /// Rows of `columns` values that start `row_stride` apart, the first at the start of `data`.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        check(data.len(), rows, columns, row_stride);
        assert!(rows <= 1 || row_stride >= columns, "rows of an output may not overlap");
        MatMut { data, rows, columns, row_stride }
    }
}

fn check(len: usize, rows: usize, columns: usize, row_stride: usize) {
    let last = match (rows, columns) {
        (0, _) | (_, 0) => Some(0),
        _ => (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(columns)),
    };
    let last = last.unwrap_or(usize::MAX);
    assert!(
        last <= len,
        "a view of {rows} × {columns} with rows {row_stride} apart needs {last} values, not {len}"
    );
}

/// What happens to the values that the output holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// They are overwritten.
    Set,
    /// The product is added to them.
    Add,
}

/// How many threads one product may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling one: for small products inside parallel work.
    One,
    /// All of the current pool.
    All,
}

/// `c = factor · a b` or `c += factor · a b`, with `a [m, k]`, `b [k, n]`, `c [m, n]`.
pub fn matmul(c: MatMut<'_>, into: Into, factor: f32, a: Mat<'_>, b: Mat<'_>, threads: Threads) {
    let (m, n, k) = (c.rows, c.columns, a.columns);
    assert_eq!(
        (a.rows, b.rows, b.columns),
        (m, k, n),
        "matmul: [{m}, {n}] from [{}, {k}] · [{}, {}]",
        a.rows,
        b.rows,
        b.columns
    );
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if into == Into::Set {
            (0..m).for_each(|i| c.data[i * c.row_stride..][..n].fill(0.0));
        }
        return;
    }
    let parallelism = match threads {
        // Waking another thread takes longer than a small product.
        Threads::All if m * n * k >= SMALL => Parallelism::Rayon(0),
        _ => Parallelism::None,
    };
    let alpha = if into == Into::Add { 1.0 } else { 0.0 };
    // SAFETY: the constructors checked that every element of the three views lies inside its slice, `c` is borrowed
    // exclusively and its rows do not overlap, and the shapes were compared above.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.data.as_mut_ptr(),
            1,
            c.row_stride as isize,
            into == Into::Add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            alpha,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
        m: usize,
        n: usize,
        k: usize,
    ) -> Vec<f64> {
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k).map(|p| a(i, p) as f64 * b(p, j) as f64).sum();
            }
        }
        c
    }

    #[test]
    fn products_follow_the_definition_in_every_layout() {
        for (m, n, k) in [(1, 1, 1), (1, 70, 33), (5, 7, 64), (64, 65, 17), (130, 40, 300)] {
            let a: Vec<f32> = (0..m * k).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| ((i * 53 % 97) as f32 - 48.0) / 48.0).collect();
            let want = naive(|i, p| a[i * k + p], |p, j| b[p * n + j], m, n, k);
            let transposed: Vec<f32> = (0..n * k).map(|i| b[(i % k) * n + i / k]).collect();
            for threads in [Threads::One, Threads::All] {
                let mut c = vec![1.0; m * n];
                matmul(
                    MatMut::new(&mut c, m, n),
                    Into::Set,
                    2.0,
                    Mat::new(&a, m, k),
                    Mat::new(&b, k, n),
                    threads,
                );
                let mut d = vec![1.0; m * n];
                matmul(
                    MatMut::new(&mut d, m, n),
                    Into::Add,
                    1.0,
                    Mat::new(&a, m, k),
                    Mat::new(&transposed, n, k).t(),
                    threads,
                );
                for i in 0..m * n {
                    assert!((c[i] as f64 - 2.0 * want[i]).abs() < 1e-4, "set [{i}]");
                    assert!((d[i] as f64 - 1.0 - want[i]).abs() < 1e-4, "add [{i}]");
                }
            }
        }
    }

    #[test]
    fn an_empty_sum_sets_zero() {
        let mut c = [3.0; 2];
        matmul(
            MatMut::new(&mut c, 1, 2),
            Into::Set,
            1.0,
            Mat::new(&[], 1, 0),
            Mat::new(&[], 0, 2),
            Threads::One,
        );
        assert_eq!(c, [0.0; 2]);
    }

    #[test]
    #[should_panic(expected = "needs 12 values")]
    fn a_view_past_the_end_is_refused() {
        Mat::strided(&[0.0; 11], 3, 4, 4);
    }
}
