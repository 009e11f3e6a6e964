//! Scrape targets as a pure function of the Cluster snapshot and the configuration.
//! Empty until the collector scrapes anything: profiles need no targets.
