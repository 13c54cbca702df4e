//! Samples that stand or fall together (several questions on one document, several turns of one conversation): which
//! samples form a cluster. What intervals and tests make of it is theirs.

use std::collections::HashMap;
use std::hash::Hash;

/// Which cluster each sample is in: numbers `0..count`, by the first sample of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clusters {
    of: Vec<usize>,
    count: usize,
}

impl Clusters {
    /// Samples with equal labels form a cluster; one without a label is a cluster of its own.
    pub fn new<L: Hash + Eq>(labels: &[Option<L>]) -> Clusters {
        let mut known: HashMap<&L, usize> = HashMap::new();
        let mut count = 0;
        let mut next = || {
            count += 1;
            count - 1
        };
        let of = labels
            .iter()
            .map(|label| match label {
                Some(label) => *known.entry(label).or_insert_with(&mut next),
                None => next(),
            })
            .collect();
        Clusters { of, count }
    }

    /// How many clusters there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many samples there are.
    pub fn samples(&self) -> usize {
        self.of.len()
    }

    /// Whether any cluster has more than one sample, so that it matters.
    pub fn matter(&self) -> bool {
        self.count < self.of.len()
    }

    /// The samples of each cluster.
    pub fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.count];
        self.of.iter().enumerate().for_each(|(sample, cluster)| members[*cluster].push(sample));
        members
    }

    /// The clusters of some of the samples, in the order of `chosen`.
    pub fn among(&self, chosen: &[usize]) -> Clusters {
        Clusters::new(&chosen.iter().map(|sample| Some(self.of[*sample])).collect::<Vec<_>>())
    }

    /// Sum and number of the samples of each cluster. `values` holds one number a sample.
    pub fn sums(&self, values: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut sums, mut sizes) = (vec![0.0; self.count], vec![0.0; self.count]);
        for (cluster, value) in self.of.iter().zip(values) {
            sums[*cluster] += value;
            sizes[*cluster] += 1.0;
        }
        (sums, sizes)
    }

    /// The mean of each cluster.
    pub fn means(&self, values: &[f64]) -> Vec<f64> {
        let (sums, sizes) = self.sums(values);
        sums.iter().zip(sizes).filter(|(_, size)| *size > 0.0).map(|(sum, size)| sum / size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_form_a_cluster_and_no_label_one_of_its_own() {
        let clusters = Clusters::new(&[Some("a"), None, Some("b"), Some("a"), None]);
        assert_eq!((clusters.count(), clusters.samples(), clusters.matter()), (4, 5, true));
        let (sums, sizes) = clusters.sums(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!((sums, sizes), (vec![5.0, 2.0, 3.0, 5.0], vec![2.0, 1.0, 1.0, 1.0]));
        assert_eq!(clusters.means(&[1.0, 2.0, 3.0, 4.0, 5.0]), [2.5, 2.0, 3.0, 5.0]);
        assert_eq!(clusters.members(), [vec![0, 3], vec![1], vec![2], vec![4]]);
        assert_eq!(clusters.among(&[3, 2, 0]), Clusters::new(&[Some(1), Some(2), Some(1)]));
        assert!(!Clusters::new::<&str>(&[None, None]).matter());
    }
}
