//! What administrators said about clusters.

use super::error::RegistryError;
use super::memory::Registry;
use super::store::{Order, Wish};

impl Registry {
    /// Returns what administrators said about clusters.
    ///
    /// # Errors
    /// The database failed.
    pub async fn orders(&self) -> Result<Vec<Order>, RegistryError> {
        self.store.orders().await
    }

    /// Stores what an administrator wants of a cluster; returns the order that holds, which is the
    /// first of its kind.
    ///
    /// # Errors
    /// It could not be stored.
    pub async fn give_order(
        &self,
        cluster: &str,
        wish: Wish,
        by: &str,
    ) -> Result<Order, RegistryError> {
        let order = Order {
            cluster: cluster.to_owned(),
            wish,
            since_ms: self.clock.now().wall_ms,
            by: by.to_owned(),
        };
        self.noted(self.store.give_order(order).await)
    }

    /// Takes an order back; false if there was none.
    ///
    /// # Errors
    /// It could not be stored.
    pub async fn lift_order(&self, cluster: &str, wish: Wish) -> Result<bool, RegistryError> {
        self.noted(self.store.lift_order(cluster.to_owned(), wish).await)
    }
}
