//! Containers and processes to the Cluster snapshot.
