//! Stores over other stores: what a layer does not do itself, the store below it does.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::facts::Facts;
use super::{
    Bucket, Capabilities, Conditions, Download, GetOptions, ListOptions, Listed, Object, PutOptions, Resumed,
    Right, Store, Unfinished, Upload, VersionId, Written,
};
use crate::Result;

/// A [`Store`] that changes some calls to the store below it. Each method is the one of that name in [`Store`].
#[allow(missing_docs, reason = "they are those of Store")]
#[async_trait]
pub trait Layer: fmt::Debug + Send + Sync {
    /// The store below.
    fn below(&self) -> &dyn Store;

    fn show(&self, key: &str) -> String {
        self.below().show(key)
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        self.below().capabilities().await
    }

    async fn conditions(&self) -> Result<Conditions> {
        self.below().conditions().await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        self.below().put(key, body, options).await
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        self.below().upload(key, options).await
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        self.below().get(key, options).await
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        self.below().stat(key, version).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        self.below().list(options)
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        self.below().delete(key, version).await
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        self.below().hide(key).await
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        self.below().copy(from, version, to, options).await
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        self.below().unfinished(prefix)
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        self.below().abort(unfinished).await
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        self.below().resume(unfinished, options).await
    }

    fn check_key(&self, key: &str) -> Result<()> {
        self.below().check_key(key)
    }

    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        self.below().require(prefix, rights).await
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        self.below().facts(prefix).await
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        self.below().bucket()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<L: Layer> Store for L {
    fn show(&self, key: &str) -> String {
        Layer::show(self, key)
    }

    async fn capabilities(&self) -> Result<Capabilities> {
        Layer::capabilities(self).await
    }

    async fn conditions(&self) -> Result<Conditions> {
        Layer::conditions(self).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<Written> {
        Layer::put(self, key, body, options).await
    }

    async fn upload(&self, key: &str, options: &PutOptions) -> Result<Box<dyn Upload>> {
        Layer::upload(self, key, options).await
    }

    async fn get(&self, key: &str, options: &GetOptions) -> Result<Download> {
        Layer::get(self, key, options).await
    }

    async fn stat(&self, key: &str, version: Option<&VersionId>) -> Result<Object> {
        Layer::stat(self, key, version).await
    }

    fn list(&self, options: ListOptions) -> BoxStream<'_, Result<Listed>> {
        Layer::list(self, options)
    }

    async fn delete(&self, key: &str, version: &VersionId) -> Result<()> {
        Layer::delete(self, key, version).await
    }

    async fn hide(&self, key: &str) -> Result<VersionId> {
        Layer::hide(self, key).await
    }

    async fn copy(
        &self,
        from: &str,
        version: Option<&VersionId>,
        to: &str,
        options: &PutOptions,
    ) -> Result<Written> {
        Layer::copy(self, from, version, to, options).await
    }

    fn unfinished(&self, prefix: &str) -> BoxStream<'_, Result<Unfinished>> {
        Layer::unfinished(self, prefix)
    }

    async fn abort(&self, unfinished: &Unfinished) -> Result<()> {
        Layer::abort(self, unfinished).await
    }

    async fn resume(&self, unfinished: &Unfinished, options: &PutOptions) -> Result<Resumed> {
        Layer::resume(self, unfinished, options).await
    }

    fn check_key(&self, key: &str) -> Result<()> {
        Layer::check_key(self, key)
    }

    async fn require(&self, prefix: &str, rights: &[Right]) -> Result<()> {
        Layer::require(self, prefix, rights).await
    }

    async fn facts(&self, prefix: &str) -> Result<Facts> {
        Layer::facts(self, prefix).await
    }

    fn bucket(&self) -> Option<&dyn Bucket> {
        Layer::bucket(self)
    }
}
