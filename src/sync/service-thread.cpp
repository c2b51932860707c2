// The synchroniser on a thread of its own: calls are carried to the thread's event loop, and wait there.
#include <future>
#include <thread>

#include <kj/async-io.h>
#include <kj/debug.h>

#include <capstan/base/log.h>
#include <capstan/sync/service.h>

namespace capstan::sync {

struct ServiceThread::Impl {
  Impl(ServiceOptions options, OnEvent onEvent);
  ~Impl() noexcept(false);

  void main(ServiceOptions options, OnEvent onEvent);
  Service& getService() const { return *service; }

  // Calls on the service's thread; answers when what it promises is there.
  template <typename Func>
  auto call(Func func) -> decltype(kj::instance<const kj::Executor&>().executeSync(func)) {
    KJ_REQUIRE(std::this_thread::get_id() != thread.get_id(), "not from the event callback: it would wait for itself");
    return executor->executeSync(kj::mv(func));
  }
  // For what is done at once: from any thread.
  template <typename Func>
  auto callAnywhere(Func func) -> decltype(func()) {
    if (std::this_thread::get_id() == thread.get_id()) return func();
    return executor->executeSync(kj::mv(func));
  }

  // Written by the thread before the constructor returns, constant after that.
  kj::Own<const kj::Executor> executor;
  kj::Own<kj::CrossThreadPromiseFulfiller<void>> quit;
  Service* service = nullptr;  // for use on the thread only

  std::promise<void> isReady;
  std::thread thread;
};

ServiceThread::Impl::Impl(ServiceOptions options, OnEvent onEvent) {
  thread = std::thread([this, options = std::move(options), onEvent = std::move(onEvent)]() mutable {
    log::LinesOfKj linesOfKj;
    KJ_IF_MAYBE (exception, kj::runCatchingExceptions([&]() { main(std::move(options), std::move(onEvent)); })) {
      if (service == nullptr)
        isReady.set_exception(std::make_exception_ptr(kj::mv(*exception)));
      else
        log::error("the synchroniser's thread has ended: ", *exception);
    }
  });
  try {
    isReady.get_future().get();
  } catch (...) {
    thread.join();
    throw;
  }
}

void ServiceThread::Impl::main(ServiceOptions options, OnEvent onEvent) {
  auto io = kj::setupAsyncIo();
  Service here(io.provider->getNetwork(), io.provider->getTimer(), std::move(options), std::move(onEvent));
  auto end = kj::newPromiseAndCrossThreadFulfiller<void>();
  executor = kj::getCurrentThreadExecutor().addRef();
  quit = kj::mv(end.fulfiller);
  service = &here;
  isReady.set_value();
  end.promise.wait(io.waitScope);
  here.stop().wait(io.waitScope);
}

ServiceThread::Impl::~Impl() noexcept(false) {
  KJ_REQUIRE(std::this_thread::get_id() != thread.get_id(), "not from the event callback");
  quit->fulfill();
  thread.join();
}

ServiceThread::ServiceThread(ServiceOptions options, OnEvent onEvent)
    : impl(std::make_unique<Impl>(std::move(options), std::move(onEvent))) {}
ServiceThread::~ServiceThread() noexcept(false) {}

Status ServiceThread::start() {
  return impl->call([this]() { return impl->getService().start(); });
}

void ServiceThread::stop() {
  impl->call([this]() { return impl->getService().stop(); });
}

void ServiceThread::pause() {
  impl->callAnywhere([this]() { impl->getService().pause(); });
}

void ServiceThread::resume() {
  impl->callAnywhere([this]() { impl->getService().resume(); });
}

CycleReport ServiceThread::flush() {
  return impl->call([this]() { return impl->getService().flush(); });
}

ServiceStatus ServiceThread::status() const {
  return impl->callAnywhere([this]() { return impl->getService().status(); });
}

}  // namespace capstan::sync
