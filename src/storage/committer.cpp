#include <capstan/storage/committer.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <kj/debug.h>

#include <capstan/storage/mutation.h>
#include <capstan/storage/run.h>
#include <capstan/storage/touched.h>

namespace capstan::storage {

namespace {

constexpr size_t MAX_ROUND = 4096;
// So many mutations of one batch are carried out before those of others have their turn: some milliseconds.
constexpr size_t SLICE = 512;

using Fulfiller = kj::CrossThreadPromiseFulfiller<Result<Entry>>;
using BatchFulfiller = kj::CrossThreadPromiseFulfiller<std::vector<Result<Entry>>>;
using Mutations = std::vector<std::unique_ptr<Mutation>>;

Error shuttingDown() { return {ErrorCode::SHUTTING_DOWN, "the server is shutting down; nothing was changed", {}}; }

// What goes wrong in one operation of a batch is that operation's answer.
Error errorFrom(const kj::Exception& exception) {
  return {ErrorCode::IO, "the server failed: " + std::string(exception.getDescription().cStr()), {}};
}

}  // namespace

struct Committer::Ticket::State {
  enum class Phase { WAITING, READY, QUEUED, DONE };

  const void* connection = nullptr;  // constant after construction
  // protected by the committer's mutex; what is to be done, and who hears of it, belong to its thread once QUEUED
  Phase phase = Phase::WAITING;
  Mutations mutations;
  std::shared_ptr<Run> run;
  kj::Own<Fulfiller> fulfiller;            // of submit()
  kj::Own<BatchFulfiller> batchFulfiller;  // of submitAll()
  kj::Maybe<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> turn;

  bool isBatch() const { return batchFulfiller.get() != nullptr; }
};

struct Committer::Impl {
  using State = Ticket::State;
  using Phase = State::Phase;

  // One connection's mutations in their order; the first `queued` of them are in the queue.
  struct Chain {
    std::deque<std::shared_ptr<State>> tickets;
    size_t queued = 0;
  };

  // One mutation that is being carried out.
  struct Item {
    std::vector<size_t> touched;
    kj::Maybe<Result<Entry>> result;
    kj::Maybe<kj::Exception> exception;
    bool isToBeFlushed = false;  // its content, before it is applied

    bool isOver() const { return result != nullptr || exception != nullptr; }
  };

  // One ticket that is being carried out. A batch may take several rounds, and flushes at its end what all of them
  // have touched; the folders of all others are the round's.
  struct Work {
    std::shared_ptr<State> ticket;
    std::vector<Item> items;
    std::unique_ptr<Touched> folders;  // of a batch
    bool prepared = false;
    size_t next = 0;            // to be applied
    std::vector<size_t> trash;  // what the run has touched

    bool isApplied() const { return next == items.size(); }
    Mutation& mutation(const Item& item) const { return *ticket->mutations[size_t(&item - items.data())]; }
  };

  class ThisRound final : public Round {
   public:
    explicit ThisRound(Impl& impl) : Round(impl.root, impl.staging, *impl.disk), impl(impl) {}
    void touch(kj::AutoCloseFd fd) override { touched->push_back(folders->add(kj::mv(fd), false)); }
    void touchFileSystemOf(kj::AutoCloseFd fd) override { touched->push_back(folders->add(kj::mv(fd), true)); }
    void applied(Committer::Applied change) override {
      if (impl.listener) impl.listener(change);
    }

    void enter(Work& work, Touched& roundsFolders, std::vector<size_t>& numbers) {
      run = work.ticket->run.get();
      folders = work.folders != nullptr ? work.folders.get() : &roundsFolders;
      touched = &numbers;
    }

   private:
    Impl& impl;
    Touched* folders = nullptr;
    std::vector<size_t>* touched = nullptr;
  };

  // constant after construction
  const Root& root;
  Staging& staging;
  Disk ownDisk;
  Disk* disk = &ownDisk;
  bool trusted;                                  // touched by the thread only, once that runs
  std::function<void(const Applied&)> listener;  // constant after the first submit

  // protected by mutex
  mutable std::mutex mutex;
  std::condition_variable wakeUp;
  std::unordered_map<const void*, Chain> chains;
  std::deque<std::shared_ptr<State>> queue;
  bool ending = false;

  std::atomic<uint64_t> applying{0};  // odd: a mutation is being applied
  std::atomic<uint64_t> commits{0};
  std::atomic<uint64_t> rounds{0};
  std::atomic<uint64_t> pending{0};
  std::thread thread;

  Impl(const Root& root, Staging& staging)
      : root(root), staging(staging), trusted(syncfsIsTrusted(staging.fd()) && syncfsIsTrusted(root.fd())) {}

  // With the mutex: queues what has become ready at the head of the chain, and tells the first one that it is its turn.
  void advance(Chain& chain) {
    while (chain.queued < chain.tickets.size() && chain.tickets[chain.queued]->phase == Phase::READY) {
      // A batch goes in slices: what comes after it has to wait for the last.
      if (chain.queued > 0 && chain.tickets[chain.queued - 1]->isBatch()) break;
      auto& ticket = chain.tickets[chain.queued++];
      ticket->phase = Phase::QUEUED;
      queue.push_back(ticket);
      if (queue.size() == 1) wakeUp.notify_one();
    }
    if (chain.tickets.empty()) return;
    KJ_IF_MAYBE (turn, chain.tickets.front()->turn) {
      (*turn)->fulfill();
      chain.tickets.front()->turn = nullptr;
    }
  }

  // With the mutex: takes the ticket out of its chain.
  void leave(State& ticket) {
    auto found = chains.find(ticket.connection);
    auto& tickets = found->second.tickets;
    for (size_t i = 0; i < tickets.size(); ++i) {
      if (tickets[i].get() != &ticket) continue;
      if (i < found->second.queued) --found->second.queued;
      tickets.erase(tickets.begin() + ptrdiff_t(i));
      break;
    }
    ticket.phase = Phase::DONE;
    if (tickets.empty()) {
      chains.erase(found);
    } else {
      advance(found->second);
    }
  }

  // With the mutex: makes the ticket one that is to be carried out. Nothing if it is too late for that.
  bool begin(State& ticket, Mutations mutations, std::shared_ptr<Run> run) {
    if (ending) return false;
    pending += mutations.size();
    ticket.mutations = std::move(mutations);
    ticket.run = std::move(run);
    ticket.phase = Phase::READY;
    advance(chains[ticket.connection]);
    return true;
  }

  void work() {
    std::vector<Work> works;  // between rounds: batches of which there is more to do
    std::unique_lock lock(mutex);
    while (true) {
      wakeUp.wait(lock, [&] { return ending || !queue.empty() || !works.empty(); });
      if (ending) break;
      while (!queue.empty() && works.size() < MAX_ROUND) {
        works.push_back(workOf(kj::mv(queue.front())));
        queue.pop_front();
      }
      lock.unlock();
      carryOut(works);
      lock.lock();
    }
    lock.unlock();
    for (auto& work : works) breakOff(work);
  }

  Work workOf(std::shared_ptr<State> ticket) {
    Work work;
    work.items.resize(ticket->mutations.size());
    if (ticket->isBatch()) work.folders = std::make_unique<Touched>(*disk, root.fd(), trusted);
    work.ticket = std::move(ticket);
    return work;
  }

  // Begins what is new, goes on with what is not, and takes out what is done.
  void carryOut(std::vector<Work>& works) {
    Touched folders(*disk, root.fd(), trusted);
    ThisRound round(*this);
    flushContents(works, round, folders);
    for (auto& work : works) applySlice(work, round, folders);
    folders.flush();
    ++rounds;
    for (auto& work : works) {
      if (work.isApplied()) answer(work, folders);
    }
    std::erase_if(works, [](const Work& work) { return work.isApplied(); });
  }

  void flushContents(std::vector<Work>& works, ThisRound& round, Touched& folders) {
    std::vector<std::pair<Work*, Item*>> staged;
    for (auto& work : works) {
      if (std::exchange(work.prepared, true)) continue;
      for (auto& item : work.items) {
        round.enter(work, folders, item.touched);
        item.exception = kj::runCatchingExceptions([&]() {
          if (work.mutation(item).prepare(round)) staged.emplace_back(&work, &item);
        });
      }
    }
    // When it fails, single flushes tell whose fault it was.
    if (trusted && staged.size() >= SYNCFS_THRESHOLD) {
      if (disk->syncfs(staging.fd()) == 0) return;
      // It tells of an error once, maybe of one in content that belongs to a later round: from here on each by itself.
      trusted = false;
    }
    // Those of a batch with its slices: nobody else waits for all of them.
    for (auto [work, item] : staged) {
      item->isToBeFlushed = true;
      if (!work->ticket->isBatch()) flushContent(*work, *item, round, folders);
    }
  }

  void flushContent(Work& work, Item& item, ThisRound& round, Touched& folders) {
    if (!std::exchange(item.isToBeFlushed, false)) return;
    round.enter(work, folders, item.touched);
    item.exception = kj::runCatchingExceptions([&]() {
      Status flushed = work.mutation(item).flushContent(round);
      if (!flushed.ok()) item.result = Result<Entry>(flushed.error());
    });
  }

  void applySlice(Work& work, ThisRound& round, Touched& roundsFolders) {
    Touched& folders = work.folders != nullptr ? *work.folders : roundsFolders;
    size_t end = std::min(work.items.size(), work.next + SLICE);
    for (size_t i = work.next; i < end; ++i) flushContent(work, work.items[i], round, folders);
    for (; work.next < end; ++work.next) {
      Item& item = work.items[work.next];
      if (!item.isOver()) {
        round.enter(work, folders, item.touched);
        ++applying;
        item.exception = kj::runCatchingExceptions([&]() { item.result = work.mutation(item).apply(round); });
        ++applying;
        applying.notify_all();
      }
      if (folders.isFull()) folders.flush();
    }
    if (work.ticket->run != nullptr) {
      round.enter(work, folders, work.trash);
      work.ticket->run->write(round);
    }
    if (!work.isApplied()) return;
    {
      std::lock_guard lock(mutex);
      leave(*work.ticket);
    }
    if (work.folders != nullptr) work.folders->flush();
  }

  // The server goes away. What was applied is made durable and told; the rest was never begun.
  void breakOff(Work& work) {
    work.folders->flush();
    for (; !work.isApplied(); ++work.next) work.items[work.next].result = Result<Entry>(shuttingDown());
    {
      std::lock_guard lock(mutex);
      leave(*work.ticket);
    }
    answer(work, *work.folders);
  }

  void answer(Work& work, const Touched& roundsFolders) {
    const Touched& folders = work.folders != nullptr ? *work.folders : roundsFolders;
    State& ticket = *work.ticket;
    std::vector<Result<Entry>> results;
    for (auto& item : work.items) {
      settle(work, item, folders);
      if (!ticket.isBatch()) continue;
      KJ_IF_MAYBE (exception, item.exception) {
        results.push_back(errorFrom(*exception));
      }
      else KJ_IF_MAYBE (result, item.result) {
        results.push_back(kj::mv(*result));
      }
    }
    pending -= work.items.size();
    ticket.mutations.clear();
    ticket.run = nullptr;
    if (ticket.isBatch()) {
      ticket.batchFulfiller->fulfill(kj::mv(results));
      ticket.batchFulfiller = nullptr;
      return;
    }
    KJ_IF_MAYBE (exception, work.items[0].exception) {
      ticket.fulfiller->reject(kj::mv(*exception));
    }
    else KJ_IF_MAYBE (result, work.items[0].result) {
      ticket.fulfiller->fulfill(kj::mv(*result));
    }
    ticket.fulfiller = nullptr;
  }

  // Whether it is durable, now that all is flushed.
  void settle(Work& work, Item& item, const Touched& folders) {
    bool ok = false;
    KJ_IF_MAYBE (result, item.result) {
      for (auto numbers : {&item.touched, &work.trash}) {
        for (size_t number : *numbers) {
          int error = folders.errorOf(number);
          if (error == 0 || !result->ok()) continue;
          std::string path = (*result)->path;
          *result = errorFromErrno(error, "the change is made, but could not be made durable, of", path);
        }
      }
      ok = result->ok();
    }
    if (ok) ++commits;
    kj::runCatchingExceptions([&]() { work.mutation(item).finish(ok); });
  }
};

Committer::Committer(const Root& root, Staging& staging) : impl(std::make_shared<Impl>(root, staging)) {
  impl->thread = std::thread([self = impl.get()] { self->work(); });
}

Committer::Committer(const Root& root, Staging& staging, Disk& disk) : impl(std::make_shared<Impl>(root, staging)) {
  impl->disk = &disk;
  impl->thread = std::thread([self = impl.get()] { self->work(); });
}

Committer::~Committer() noexcept(false) {
  {
    std::lock_guard lock(impl->mutex);
    impl->ending = true;
  }
  impl->wakeUp.notify_all();
  impl->thread.join();
  std::lock_guard lock(impl->mutex);
  for (auto& [connection, chain] : impl->chains) {
    for (auto& ticket : chain.tickets) {
      if (ticket->fulfiller.get() != nullptr) ticket->fulfiller->fulfill(shuttingDown());
      if (ticket->isBatch()) {
        ticket->batchFulfiller->fulfill(std::vector<Result<Entry>>(ticket->mutations.size(), shuttingDown()));
      }
      ticket->mutations.clear();  // they hold Staging, which goes next
      ticket->run = nullptr;
    }
  }
}

Committer::Ticket::Ticket(std::shared_ptr<Impl> committer, std::shared_ptr<State> state)
    : committer(std::move(committer)), state(std::move(state)) {}

Committer::Ticket::~Ticket() {
  if (state == nullptr) return;
  std::lock_guard lock(committer->mutex);
  if (state->phase == State::Phase::WAITING) committer->leave(*state);
}

Committer::Ticket Committer::takeTicket(const void* connection) {
  auto state = std::make_shared<Ticket::State>();
  state->connection = connection;
  std::lock_guard lock(impl->mutex);
  impl->chains[connection].tickets.push_back(state);
  return Ticket(impl, std::move(state));
}

kj::Promise<void> Committer::turnOf(const Ticket& ticket) {
  auto paf = kj::newPromiseAndCrossThreadFulfiller<void>();
  std::lock_guard lock(impl->mutex);
  ticket.state->turn = kj::mv(paf.fulfiller);
  impl->advance(impl->chains[ticket.state->connection]);
  return kj::mv(paf.promise);
}

kj::Promise<Result<Entry>> Committer::submit(Ticket ticket, std::unique_ptr<Mutation> mutation) {
  auto paf = kj::newPromiseAndCrossThreadFulfiller<Result<Entry>>();
  Mutations mutations;
  mutations.push_back(std::move(mutation));
  std::lock_guard lock(impl->mutex);
  ticket.state->fulfiller = kj::mv(paf.fulfiller);
  if (impl->begin(*ticket.state, std::move(mutations), nullptr)) return kj::mv(paf.promise);
  ticket.state->fulfiller = nullptr;
  return Result<Entry>(shuttingDown());
}

kj::Promise<std::vector<Result<Entry>>> Committer::submitAll(Ticket ticket,
                                                             std::vector<std::unique_ptr<Mutation>> mutations,
                                                             std::shared_ptr<Run> run) {
  auto paf = kj::newPromiseAndCrossThreadFulfiller<std::vector<Result<Entry>>>();
  size_t count = mutations.size();
  std::lock_guard lock(impl->mutex);
  ticket.state->batchFulfiller = kj::mv(paf.fulfiller);
  if (impl->begin(*ticket.state, std::move(mutations), std::move(run))) return kj::mv(paf.promise);
  ticket.state->batchFulfiller = nullptr;
  return std::vector<Result<Entry>>(count, shuttingDown());
}

void Committer::onApplied(std::function<void(const Applied&)> listener) {
  std::lock_guard lock(impl->mutex);
  impl->listener = std::move(listener);
}

void Committer::waitForApply() const {
  uint64_t now = impl->applying.load();
  if (now % 2 == 1) impl->applying.wait(now);
}

bool Committer::hasPending(const void* connection) const {
  std::lock_guard lock(impl->mutex);
  return impl->chains.contains(connection);
}

Committer::Figures Committer::figures() const {
  return {impl->commits.load(), impl->disk->flushes(), impl->rounds.load(), impl->pending.load()};
}

Disk& Committer::disk() { return *impl->disk; }

}  // namespace capstan::storage
