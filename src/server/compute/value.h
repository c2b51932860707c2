// Values of one connection: computed or to be computed, and the capability for them.
#pragma once

#include <memory>

#include <kj/async.h>
#include <kj/refcount.h>

#include <capstan/server/compute/compute-scope.h>
#include <capstan/server/compute/content.h>
#include <capstan/server/compute/work.h>

namespace capstan::server::compute {

using ContentResult = Result<std::shared_ptr<const Content>>;

// What a Value capability and the computations that need it share. Belongs to the connection's loop. When nobody holds
// it any more its computation is stopped.
class ValueNode final : public kj::Refcounted {
 public:
  explicit ValueNode(kj::Own<ComputeScope> scope);
  ~ValueNode() noexcept(false);
  KJ_DISALLOW_COPY(ValueNode);

  // To be called once: what it will be. The promise is dropped with the node.
  void compute(kj::Promise<ContentResult> promise);
  // It is this, now. To be called at most once, and not after compute().
  void resolve(ContentResult result);

  bool ready() const { return result != nullptr; }
  // The order in which the scope's nodes were made. What a node depends on has a smaller number: so nothing can wait
  // for itself.
  uint64_t number() const { return theNumber; }

  // Resolves when ready().
  kj::Promise<void> whenReady();
  // Precondition: ready().
  const ContentResult& get() const { return KJ_ASSERT_NONNULL(result); }

  // For the computing code: its `stop` is set when the node goes.
  const std::shared_ptr<Work>& work() const { return theWork; }

 private:
  kj::Own<ComputeScope> scope;
  const Meters::Charge place;  // among the values that may be held
  const uint64_t theNumber;
  const std::shared_ptr<Work> theWork = std::make_shared<Work>();
  kj::Maybe<ContentResult> result;
  std::vector<kj::Own<kj::PromiseFulfiller<void>>> waiting;
  kj::Maybe<kj::Promise<void>> computation;
};

// The capability.
schema::Value::Client newValue(ComputeScope& scope, kj::Own<ValueNode> node);
// One that is there already.
schema::Value::Client newValue(ComputeScope& scope, std::shared_ptr<const Content> content);

// The node behind a capability that was made in this scope; nothing for all others. Waits until a promised capability
// is known.
kj::Promise<kj::Maybe<kj::Own<ValueNode>>> localValue(ComputeScope& scope, schema::Value::Client value);

}  // namespace capstan::server::compute
