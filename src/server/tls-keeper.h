// The key and certificate that the server shows now: replaced while it runs, read by all loops. Thread-safe.
#pragma once

#include <atomic>
#include <memory>

#include <kj/mutex.h>

#include <capstan/rpc/certificate.h>

namespace capstan::server {

class TlsKeeper {
 public:
  // Null before the first replace(): the server has Unix sockets only.
  std::shared_ptr<const rpc::TlsIdentity> current() const { return *identity.lockShared(); }

  // For the handshakes that begin from now on.
  void replace(rpc::TlsIdentity next) {
    *identity.lockExclusive() = std::make_shared<const rpc::TlsIdentity>(std::move(next));
    changes.fetch_add(1, std::memory_order_release);
  }

  // Differs after each replace(), so that loops need not take the lock to see that nothing is new.
  uint64_t generation() const { return changes.load(std::memory_order_acquire); }

 private:
  kj::MutexGuarded<std::shared_ptr<const rpc::TlsIdentity>> identity;
  std::atomic<uint64_t> changes{0};
};

}  // namespace capstan::server
