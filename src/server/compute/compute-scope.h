// What one login holds of computing: its values and the capabilities that it was given; and what all logins of one
// connection may have together. Internal to src/server/compute.
#pragma once

#include <atomic>
#include <vector>

#include <capnp/capability.h>
#include <kj/refcount.h>
#include <kj/timer.h>

#include <capstan/server/compute/computing.h>

namespace capstan::server::compute {

// Lists that came in messages and are not computed yet, of one connection. With more, calls wait with their answer, and
// the connection's flow control holds back what is behind them.
inline constexpr size_t LITERAL_BYTES_LIMIT = 32 << 20;

// Of one connection, on the threads or in their queues.
inline constexpr size_t QUICK_AT_ONCE = 4;
inline constexpr size_t BULK_AT_ONCE = 2;
// What one addition may have.
inline constexpr uint32_t MAX_OPERANDS = 4096;
// About what it takes to wait for an operand.
inline constexpr size_t WAITING_OPERAND_BYTES = 1 << 10;

// Counted over all connections; read by status.
struct ComputeTotals {
  std::atomic<uint32_t> computations{0};
  std::atomic<uint32_t> values{0};
};

// Of one connection, for all of its logins: else each login would bring as much again. Belongs to the connection's
// loop; the account is thread-safe.
struct ConnectionBudgets {
  explicit ConnectionBudgets(std::shared_ptr<SpoolAccount> account) : account(std::move(account)) {}

  const std::shared_ptr<SpoolAccount> account;  // of what its values take
  Budget literals{LITERAL_BYTES_LIMIT};
  Budget quick{QUICK_AT_ONCE};  // computations in the pools: what is beyond waits here, and not before others
  Budget bulk{BULK_AT_ONCE};
};

// Belongs to the connection's loop; kept alive by each capability made from it.
struct ComputeScope final : public kj::Refcounted {
  // constant after construction
  const ComputeContext& context;
  Jobs& jobs;
  ComputeTotals& totals;
  kj::Own<Access> access;
  ConnectionScope* const connection;                 // kept alive by `access`
  const std::shared_ptr<ConnectionBudgets> budgets;  // destroyed before `access`
  const std::shared_ptr<SpoolAccount> account;       // that of the budgets
  // owned by the loop
  uint64_t lastNumber = 0;                          // of a node
  capnp::CapabilityServerSet<schema::Value> known;  // by which values made here are known again

  ComputeScope(const ComputeContext& context, Jobs& jobs, ComputeTotals& totals, kj::Own<Access> accessParam,
               std::shared_ptr<ConnectionBudgets> budgetsParam)
      : context(context),
        jobs(jobs),
        totals(totals),
        access(kj::mv(accessParam)),
        connection(&access->connection()),
        budgets(std::move(budgetsParam)),
        account(budgets->account) {}

  // Destroys a promise, and then what others it may have held. A chain of a thousand values, each of which holds the
  // one before, goes one after the other and not one within the other.
  void bury(kj::Promise<void> promise) {
    graveyard.push_back(kj::mv(promise));
    if (burying) return;
    burying = true;
    KJ_DEFER(burying = false);
    while (!graveyard.empty()) {
      auto next = kj::mv(graveyard.back());
      graveyard.pop_back();
    }
  }

 private:
  std::vector<kj::Promise<void>> graveyard;
  bool burying = false;
};

}  // namespace capstan::server::compute
