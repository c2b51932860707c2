#include <capstan/storage/committer.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include <kj/debug.h>

#include <capstan/storage/mutation.h>
#include <capstan/storage/touched.h>

namespace capstan::storage {

namespace {

constexpr size_t MAX_ROUND = 4096;
constexpr size_t MAX_TOUCHED = 256;  // descriptors of touched folders held at once

using Fulfiller = kj::CrossThreadPromiseFulfiller<Result<Entry>>;

Error shuttingDown() { return {ErrorCode::SHUTTING_DOWN, "the server is shutting down; nothing was changed", {}}; }

}  // namespace

struct Committer::Ticket::State {
  enum class Phase { WAITING, READY, QUEUED, DONE };

  const void* connection = nullptr;  // constant after construction
  // protected by the committer's mutex; mutation and fulfiller belong to its thread once QUEUED
  Phase phase = Phase::WAITING;
  std::unique_ptr<Mutation> mutation;
  kj::Own<Fulfiller> fulfiller;
  kj::Maybe<kj::Own<kj::CrossThreadPromiseFulfiller<void>>> turn;
};

struct Committer::Impl {
  using State = Ticket::State;
  using Phase = State::Phase;

  // One connection's mutations in their order; the first `queued` of them are in the queue.
  struct Chain {
    std::deque<std::shared_ptr<State>> tickets;
    size_t queued = 0;
  };

  // A mutation in the round that is being carried out.
  struct Item {
    std::shared_ptr<State> ticket;
    std::vector<size_t> touched;
    kj::Maybe<Result<Entry>> result;
    kj::Maybe<kj::Exception> exception;
  };

  class ThisRound final : public Round {
   public:
    ThisRound(Impl& impl, Touched& folders)
        : Round(impl.root, impl.staging, *impl.disk), impl(impl), folders(folders) {}
    void touch(kj::AutoCloseFd fd) override { current->touched.push_back(folders.add(kj::mv(fd), false)); }
    void touchFileSystemOf(kj::AutoCloseFd fd) override { current->touched.push_back(folders.add(kj::mv(fd), true)); }
    void applied(Committer::Applied change) override {
      if (impl.listener) impl.listener(change);
    }

    Item* current = nullptr;

   private:
    Impl& impl;
    Touched& folders;
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

  std::atomic<uint64_t> commits{0};
  std::atomic<uint64_t> rounds{0};
  std::atomic<uint64_t> pending{0};
  std::thread thread;

  Impl(const Root& root, Staging& staging)
      : root(root), staging(staging), trusted(syncfsIsTrusted(staging.fd()) && syncfsIsTrusted(root.fd())) {}

  // With the mutex: queues what has become ready at the head of the chain, and tells the first one that it is its turn.
  void advance(Chain& chain) {
    while (chain.queued < chain.tickets.size() && chain.tickets[chain.queued]->phase == Phase::READY) {
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

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      wakeUp.wait(lock, [this] { return ending || !queue.empty(); });
      if (ending) return;
      std::vector<Item> items;
      while (!queue.empty() && items.size() < MAX_ROUND) {
        items.push_back(Item{kj::mv(queue.front()), {}, nullptr, nullptr});
        queue.pop_front();
      }
      lock.unlock();
      carryOut(items);
      items.clear();
      lock.lock();
    }
  }

  void carryOut(std::vector<Item>& items) {
    Touched folders(*disk, root.fd(), trusted);
    ThisRound round(*this, folders);
    flushContents(items, round);
    for (auto& item : items) {
      if (item.result == nullptr && item.exception == nullptr) {
        round.current = &item;
        item.exception = kj::runCatchingExceptions([&]() { item.result = item.ticket->mutation->apply(round); });
      }
      {
        std::lock_guard lock(mutex);
        leave(*item.ticket);
      }
      if (folders.pending() >= MAX_TOUCHED) folders.flush();
    }
    folders.flush();
    ++rounds;
    for (auto& item : items) answer(item, folders);
  }

  void flushContents(std::vector<Item>& items, ThisRound& round) {
    std::vector<Item*> staged;
    for (auto& item : items) {
      round.current = &item;
      item.exception = kj::runCatchingExceptions([&]() {
        if (item.ticket->mutation->prepare(round)) staged.push_back(&item);
      });
    }
    // When it fails, single flushes tell whose fault it was.
    if (trusted && staged.size() >= SYNCFS_THRESHOLD) {
      if (disk->syncfs(staging.fd()) == 0) return;
      // It tells of an error once, maybe of one in content that belongs to a later round: from here on each by itself.
      trusted = false;
    }
    for (Item* item : staged) {
      round.current = item;
      item->exception = kj::runCatchingExceptions([&]() {
        Status flushed = item->ticket->mutation->flushContent(round);
        if (!flushed.ok()) item->result = Result<Entry>(flushed.error());
      });
    }
  }

  void answer(Item& item, const Touched& folders) {
    State& ticket = *item.ticket;
    bool ok = false;
    KJ_IF_MAYBE (result, item.result) {
      for (size_t number : item.touched) {
        int error = folders.errorOf(number);
        if (error == 0 || !result->ok()) continue;
        std::string path = (*result)->path;
        *result = errorFromErrno(error, "the change is made, but could not be made durable, of", path);
      }
      ok = result->ok();
    }
    if (ok) ++commits;
    kj::runCatchingExceptions([&]() { ticket.mutation->finish(ok); });
    ticket.mutation = nullptr;
    KJ_IF_MAYBE (exception, item.exception) {
      ticket.fulfiller->reject(kj::mv(*exception));
    }
    else KJ_IF_MAYBE (result, item.result) {
      ticket.fulfiller->fulfill(kj::mv(*result));
    }
    ticket.fulfiller = nullptr;
    --pending;
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
      ticket->mutation = nullptr;  // it holds Staging, which goes next
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
  std::lock_guard lock(impl->mutex);
  auto& state = *ticket.state;
  if (impl->ending) return Result<Entry>(shuttingDown());
  ++impl->pending;
  state.mutation = std::move(mutation);
  state.fulfiller = kj::mv(paf.fulfiller);
  state.phase = Ticket::State::Phase::READY;
  impl->advance(impl->chains[state.connection]);
  return kj::mv(paf.promise);
}

void Committer::onApplied(std::function<void(const Applied&)> listener) {
  std::lock_guard lock(impl->mutex);
  impl->listener = std::move(listener);
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
