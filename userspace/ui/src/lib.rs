//! The page at :12345: flame graph, top table, download; reads the store only.
