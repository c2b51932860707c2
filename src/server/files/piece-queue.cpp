#include <capstan/server/files/piece-queue.h>

#include <algorithm>
#include <cstring>

#include <capstan/rpc/outcome.h>

namespace capstan::server::files {

namespace {

// Bytes taken beyond those of the running job before a sender has to wait. Twice as much is in memory at most.
constexpr size_t WINDOW_BYTES = 1 << 20;

// Copies take no memory, but time.
constexpr uint64_t MAX_COPY_COUNTED = 256 << 10;

template <typename List>
void fulfillAll(List& list) {
  List ready;
  ready.swap(list);
  for (auto& fulfiller : ready) fulfiller->fulfill();
}

kj::Promise<void> waitIn(std::list<kj::Own<kj::PromiseFulfiller<void>>>& list) {
  auto paf = kj::newPromiseAndFulfiller<void>();
  list.push_back(kj::mv(paf.fulfiller));
  return kj::mv(paf.promise);
}

}  // namespace

PieceQueue::PieceQueue(Store store, Zeros zeros) : store(kj::mv(store)), zeros(zeros), job(kj::READY_NOW) {}
PieceQueue::~PieceQueue() noexcept(false) = default;

kj::Promise<void> PieceQueue::addBytes(kj::ArrayPtr<const kj::byte> bytes) {
  Piece piece{kj::heapArray<kj::byte>(bytes.size()), 0};
  if (bytes.size() > 0) memcpy(piece.bytes.begin(), bytes.begin(), bytes.size());
  return add(kj::mv(piece));
}

kj::Promise<void> PieceQueue::add(Piece piece) {
  pendingBytes += piece.bytes.size() + sizeof(Piece);  // many tiny pieces count too
  pendingBytes += std::min(piece.copyCount, MAX_COPY_COUNTED);
  if (zeros == Zeros::COUNT) pendingBytes += piece.zeros;
  pieces.push_back(kj::mv(piece));
  if (!running) {
    running = true;
    job = runJobs().eagerlyEvaluate(nullptr);
  }
  if (pendingBytes <= WINDOW_BYTES) return kj::READY_NOW;
  return waitIn(waitingForRoom);
}

// Stores what has been taken, and what is taken meanwhile, until nothing is left. `this` outlives the promise, which it
// owns.
kj::Promise<void> PieceQueue::runJobs() {
  std::vector<Piece> taken = kj::mv(pieces);
  pieces.clear();
  pendingBytes = 0;
  fulfillAll(waitingForRoom);
  return kj::evalNow([&]() { return store(kj::mv(taken)); })
      .catch_([](kj::Exception&& exception) { return Status(rpc::errorFromException(exception)); })
      .then([this](Status status) -> kj::Promise<void> {
        if (!status.ok()) {
          failed = status.error();
          pieces.clear();
        }
        if (!pieces.empty()) return runJobs();
        running = false;
        fulfillAll(waitingForRoom);
        fulfillAll(waitingForAll);
        return kj::READY_NOW;
      });
}

kj::Promise<void> PieceQueue::drained() {
  if (!running) return kj::READY_NOW;
  return waitIn(waitingForAll);
}

}  // namespace capstan::server::files
