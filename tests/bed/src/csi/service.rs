//! The gRPC side: which path is which call of the driver. What is not here is `Unimplemented`.

use std::convert::Infallible;
use std::future::Future;
use std::task::{Context, Poll};

use prost::Message;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::driver::Driver;

/// `csi.v1.Identity`.
#[derive(Clone)]
pub(super) struct Identity(Driver);

/// `csi.v1.Controller`.
#[derive(Clone)]
pub(super) struct Controller(Driver);

impl Identity {
    pub(super) fn new(driver: Driver) -> Self {
        Self(driver)
    }
}

impl Controller {
    pub(super) fn new(driver: Driver) -> Self {
        Self(driver)
    }
}

impl NamedService for Identity {
    const NAME: &'static str = "csi.v1.Identity";
}

impl NamedService for Controller {
    const NAME: &'static str = "csi.v1.Controller";
}

/// One call as tonic wants it: a function from message to answer.
struct Unary<F>(F);

impl<F, Answering, M, R> UnaryService<M> for Unary<F>
where
    F: Fn(M) -> Answering,
    Answering: Future<Output = Result<R, Status>> + Send + 'static,
    R: 'static,
{
    type Response = R;
    type Future = BoxFuture<Response<R>, Status>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        let answering = (self.0)(request.into_inner());
        Box::pin(async move { answering.await.map(Response::new) })
    }
}

/// Answers one request with `act`.
fn unary<B, M, R, F, Answering>(request: http::Request<B>, act: F) -> BoxFuture<http::Response<Body>, Infallible>
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send,
    M: Message + Default + Send + 'static,
    R: Message + Default + Send + 'static,
    F: Fn(M) -> Answering + Send + Sync + 'static,
    Answering: Future<Output = Result<R, Status>> + Send + 'static,
{
    Box::pin(async move { Ok(Grpc::new(ProstCodec::<R, M>::default()).unary(Unary(act), request).await) })
}

fn unimplemented(path: &str) -> BoxFuture<http::Response<Body>, Infallible> {
    let status = Status::unimplemented(format!("{path} is not implemented"));
    Box::pin(async move { Ok(status.into_http()) })
}

/// Makes a function that calls a method of a clone of the driver.
macro_rules! with_driver {
    ($driver:expr, $method:ident) => {{
        let driver = $driver.clone();
        move |message| {
            let driver = driver.clone();
            async move { driver.$method(message).await }
        }
    }};
}

impl<B> Service<http::Request<B>> for Identity
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            "/csi.v1.Identity/GetPluginInfo" => unary(request, with_driver!(self.0, plugin_info)),
            "/csi.v1.Identity/GetPluginCapabilities" => unary(request, with_driver!(self.0, plugin_capabilities)),
            "/csi.v1.Identity/Probe" => unary(request, with_driver!(self.0, probe)),
            path => unimplemented(path),
        }
    }
}

impl<B> Service<http::Request<B>> for Controller
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            "/csi.v1.Controller/ControllerGetCapabilities" => {
                unary(request, with_driver!(self.0, controller_capabilities))
            }
            "/csi.v1.Controller/CreateVolume" => unary(request, with_driver!(self.0, create_volume)),
            "/csi.v1.Controller/DeleteVolume" => unary(request, with_driver!(self.0, delete_volume)),
            "/csi.v1.Controller/ControllerPublishVolume" => unary(request, with_driver!(self.0, publish_volume)),
            "/csi.v1.Controller/ControllerUnpublishVolume" => unary(request, with_driver!(self.0, unpublish_volume)),
            path => unimplemented(path),
        }
    }
}
