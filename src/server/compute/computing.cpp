#include <capstan/server/compute/computing.h>

#include <algorithm>
#include <map>
#include <thread>

#include <kj/mutex.h>

#include <capstan/server/compute/compute-server.h>
#include <capstan/server/compute/jobs/compute-folder.h>

namespace capstan::server::compute {

namespace {

// Below the event loops, which have none: a `ping` is answered while all threads sort.
constexpr int QUICK_NICENESS = 5;
constexpr int BULK_NICENESS = 10;
constexpr unsigned BULK_THREADS = 4;  // each computation may use the sort's memory
constexpr size_t QUEUE_LIMIT = 16384;

class ComputingImpl final : public Computing {
 public:
  ComputingImpl(LockedFolder folderParam, std::unique_ptr<Spool> spoolParam, const Options& options,
                files::ServedFolder& served)
      : folder(kj::mv(folderParam)),
        spool(std::move(spoolParam)),
        quick({.threads = std::max(2u, std::thread::hardware_concurrency()),
               .queueLimit = QUEUE_LIMIT,
               .niceness = QUICK_NICENESS,
               .name = "capstan-quick"}),
        bulk({.threads = BULK_THREADS, .queueLimit = QUEUE_LIMIT, .niceness = BULK_NICENESS, .name = "capstan-bulk"}),
        context{{quick, bulk}, *spool, served, options.limits, options.grants, options.metering} {}

  Status openJobs() {
    auto opened = Jobs::open(folder.path, context);
    if (!opened.ok()) return opened.error();
    jobs = std::move(*opened);
    return okStatus();
  }

  schema::Compute::Client newCompute(kj::Own<Access> access, kj::Timer& timer) override {
    auto budgets = budgetsOf(access->connection());
    return newGuarded<ComputeServer>(
        kj::refcounted<ComputeScope>(context, *jobs, totals, kj::mv(access), std::move(budgets)), timer);
  }

  Figures figures() const override {
    Figures result;
    result.jobs = jobs->unfinished();
    result.computations = totals.computations.load(std::memory_order_relaxed);
    result.values = totals.values.load(std::memory_order_relaxed);
    for (auto& each : *connections.lockExclusive()) {
      if (auto account = each.second.account.lock()) result.valueBytes += account->used.load(std::memory_order_relaxed);
    }
    return result;
  }

  void endJobs() override { jobs->endJobs(); }
  void beginDrain() override { jobs->beginDrain(); }

 private:
  // Destroyed in reverse order: the jobs, which wait for what they run, before the threads.
  LockedFolder folder;
  const std::unique_ptr<Spool> spool;
  BlockingPool quick;
  BlockingPool bulk;
  const ComputeContext context;
  ComputeTotals totals;
  // What a connection has lives as long as one of its logins or a computation uses it. The account may outlive the
  // rest, on any thread.
  struct Connection {
    std::weak_ptr<ConnectionBudgets> budgets;
    std::weak_ptr<SpoolAccount> account;
  };
  kj::MutexGuarded<std::map<const ConnectionScope*, Connection>> connections;
  std::unique_ptr<Jobs> jobs;

  // Whoever holds budgets holds their connection: those that are found here are of this one, and of no earlier one at
  // the same address.
  std::shared_ptr<ConnectionBudgets> budgetsOf(const ConnectionScope& connection) {
    auto locked = connections.lockExclusive();
    std::erase_if(*locked, [](auto& each) { return each.second.account.expired(); });
    auto& known = (*locked)[&connection];
    if (auto budgets = known.budgets.lock()) return budgets;
    auto budgets = std::make_shared<ConnectionBudgets>(std::make_shared<SpoolAccount>(context.limits.valueBytes));
    known = {budgets, budgets->account};
    return budgets;
  }
};

}  // namespace

Result<std::unique_ptr<Computing>> Computing::open(Options options, files::ServedFolder& folder) {
  auto locked = lockComputeFolder(options.root);
  if (!locked.ok()) return locked.error();
  adoptComputeFolders(*locked);
  auto spool = Spool::open(locked->path);
  if (!spool.ok()) return spool.error();
  auto computing = std::make_unique<ComputingImpl>(std::move(*locked), std::move(*spool), options, folder);
  auto opened = computing->openJobs();
  if (!opened.ok()) return opened.error();
  return std::unique_ptr<Computing>(std::move(computing));
}

}  // namespace capstan::server::compute
