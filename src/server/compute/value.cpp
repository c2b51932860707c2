#include <capstan/server/compute/value.h>

#include <capstan/rpc/compat.h>
#include <capstan/rpc/entry-wire.h>
#include <capstan/rpc/outcome.h>
#include <capstan/server/access/guarded.h>
#include <capstan/server/compute/deliver.h>
#include <capstan/server/compute/elements.h>

namespace capstan::server::compute {

ValueNode::ValueNode(kj::Own<ComputeScope> scopeParam)
    : scope(kj::mv(scopeParam)),
      place(scope->access->lease->meters.takeAnyway(Resource::VALUES)),
      theNumber(++scope->lastNumber) {
  scope->totals.values.fetch_add(1, std::memory_order_relaxed);
}

ValueNode::~ValueNode() noexcept(false) {
  theWork->stop = true;
  scope->totals.values.fetch_sub(1, std::memory_order_relaxed);
  KJ_IF_MAYBE (promise, computation) {
    if (result == nullptr) scope->totals.computations.fetch_sub(1, std::memory_order_relaxed);
    scope->bury(kj::mv(*promise));
  }
}

void ValueNode::compute(kj::Promise<ContentResult> promise) {
  scope->totals.computations.fetch_add(1, std::memory_order_relaxed);
  // `this` owns the promise.
  computation =
      promise.catch_([](kj::Exception&& exception) -> ContentResult { return rpc::errorFromException(exception); })
          .then([this](ContentResult computed) {
            scope->totals.computations.fetch_sub(1, std::memory_order_relaxed);
            resolve(std::move(computed));
          })
          .eagerlyEvaluate(nullptr);
}

void ValueNode::resolve(ContentResult computed) {
  result = std::move(computed);
  auto ready = kj::mv(waiting);
  waiting.clear();
  for (auto& fulfiller : ready) fulfiller->fulfill();
}

kj::Promise<void> ValueNode::whenReady() {
  if (ready()) return kj::READY_NOW;
  auto paf = kj::newPromiseAndFulfiller<void>();
  waiting.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

namespace {

class ValueServer final : public Guarded<schema::Value> {
 public:
  ValueServer(kj::Own<ComputeScope> scopeParam, kj::Own<ValueNode> node)
      : Guarded(kj::addRef(*scopeParam->access)), scope(kj::mv(scopeParam)), node(kj::mv(node)) {}

  kj::Own<ValueNode> share() { return kj::addRef(*node); }

 protected:
  // Whoever drops one of these calls does not need the value any more: the call must not keep it, or it would be
  // computed to its end for nobody.
  kj::Promise<void> describe(DescribeContext context) override {
    rpc::allowCancellation(context);
    return whenReady().then([this, context]() mutable {
      auto results = context.getResults();
      auto& value = node->get();
      if (value.ok()) return write(results.initInfo(), (*value)->info());
      rpc::setError(results.initOutcome(), value.error());
    });
  }

  kj::Promise<void> read(ReadContext context) override {
    rpc::allowCancellation(context);
    auto params = context.getParams();
    uint64_t first = params.getFirst(), count = params.getCount();
    context.releaseParams();
    return whenReady().then([this, context, first, count]() mutable -> kj::Promise<void> {
      auto& value = node->get();
      if (!value.ok()) return answerError(context, value.error());
      auto content = *value;
      auto job = [content, first, count]() { return readElements(*content, first, count); };
      if (content->inMemory()) return answerBlock(context, content->info(), job());
      return scope->context.threads.quick.run(job).then([this, context, content](Result<ElementBlock> block) mutable {
        return answerBlock(context, content->info(), std::move(block));
      });
    });
  }

  kj::Promise<void> stream(StreamContext context) override {
    rpc::allowCancellation(context);
    auto params = context.getParams();
    auto sink = params.getSink();
    auto encoding = static_cast<Encoding>(params.getEncoding());
    context.releaseParams();
    return whenReady()
        .then([this, sink, encoding]() mutable { return deliverTo(kj::mv(sink), encoding); })
        .then([sink](Status status) mutable -> kj::Promise<Status> {
          // Never end() after an error: it would say that all was sent.
          if (!status.ok()) return kj::mv(status);
          return sink.endRequest().send().then([](auto&& response) -> Status {
            KJ_IF_MAYBE (error, rpc::errorIn(response.getOutcome())) return kj::mv(*error);
            return okStatus();
          });
        })
        .then([this, context](Status status) mutable {
          auto results = context.getResults();
          if (status.ok()) return write(results.initInfo(), (*node->get())->info());
          rpc::setError(results.initOutcome(), status.error());
        });
  }

  kj::Promise<void> save(SaveContext context) override {
    rpc::allowCancellation(context);
    auto params = context.getParams();
    auto upload = params.getUpload();
    auto encoding = static_cast<Encoding>(params.getEncoding());
    context.releaseParams();
    return whenReady()
        .then([this, upload, encoding]() mutable { return deliverTo(kj::mv(upload), encoding); })
        .then([upload, context](Status status) mutable -> kj::Promise<void> {
          if (!status.ok()) return answerError(context, status.error());
          return upload.commitRequest().send().then([context](auto&& response) mutable {
            auto results = context.getResults();
            results.setOutcome(response.getOutcome());
            if (response.hasEntry()) results.setEntry(response.getEntry());
          });
        });
  }

  kj::Promise<void> progress(ProgressContext context) override {
    auto results = context.getResults();
    results.setDone(node->work()->done.load(std::memory_order_relaxed));
    results.setTotal(node->work()->total.load(std::memory_order_relaxed));
    results.setReady(node->ready());
    if (node->ready() && !node->get().ok()) rpc::setError(results.initOutcome(), node->get().error());
    return kj::READY_NOW;
  }

 private:
  kj::Own<ComputeScope> scope;
  kj::Own<ValueNode> node;

  kj::Promise<void> whenReady() { return node->whenReady(); }

  template <typename Context>
  static kj::Promise<void> answerError(Context& context, const Error& error) {
    rpc::setError(context.getResults().initOutcome(), error);
    return kj::READY_NOW;
  }

  kj::Promise<void> answerBlock(ReadContext& context, const ContentInfo& info, Result<ElementBlock> block) {
    if (!block.ok()) return answerError(context, block.error());
    auto results = context.getResults();
    write(results.initElements(), *block);
    write(results.initInfo(), info);
    results.setAtEnd(block->atEnd);
    return kj::READY_NOW;
  }

  // What a sink throws is what it would answer.
  kj::Promise<Status> deliverTo(schema::ByteSink::Client sink, Encoding encoding) {
    auto& value = node->get();
    if (!value.ok()) return Status(value.error());
    return deliver(scope->context.threads.quick, *value, kj::mv(sink), encoding);
  }
};

}  // namespace

schema::Value::Client newValue(ComputeScope& scope, kj::Own<ValueNode> node) {
  return scope.known.add(newGuarded<ValueServer>(kj::addRef(scope), kj::mv(node)));
}

schema::Value::Client newValue(ComputeScope& scope, std::shared_ptr<const Content> content) {
  auto node = kj::refcounted<ValueNode>(kj::addRef(scope));
  node->resolve(std::move(content));
  return newValue(scope, kj::mv(node));
}

kj::Promise<kj::Maybe<kj::Own<ValueNode>>> localValue(ComputeScope& scope, schema::Value::Client value) {
  return scope.known.getLocalServer(value).then(
      [](kj::Maybe<schema::Value::Server&> server) -> kj::Maybe<kj::Own<ValueNode>> {
        KJ_IF_MAYBE (found, server) {
          KJ_IF_MAYBE (value, kj::downcast<Guard<schema::Value>>(*found).as<ValueServer>()) {
            return value->share();
          }
        }
        return nullptr;
      });
}

}  // namespace capstan::server::compute
