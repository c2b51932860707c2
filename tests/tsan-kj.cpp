// Lets ThreadSanitizer see KJ's mutexes. The installed libkj is not built with it, so that everything a
// kj::MutexGuarded or a kj::Executor protects would look like a race. Linked into the tests of that build only: these
// definitions come before the library's, which they call.
#include <dlfcn.h>

#include <kj/mutex.h>

extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);

namespace kj {
namespace _ {

namespace {

template <typename Function>
Function* libraryFunction(const char* mangled) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, mangled));
}

}  // namespace

bool Mutex::lock(Exclusivity exclusivity, Maybe<Duration> timeout, LockSourceLocationArg location) {
  static auto next = libraryFunction<bool(Mutex*, Exclusivity, Maybe<Duration>, LockSourceLocationArg)>(
      "_ZN2kj1_5Mutex4lockENS1_11ExclusivityENS_5MaybeINS_8QuantityIlNS0_15NanosecondLabelEEEEENS_"
      "18NoopSourceLocationE");
  bool locked = next(this, exclusivity, timeout, location);
  __tsan_acquire(this);
  return locked;
}

void Mutex::unlock(Exclusivity exclusivity, Waiter* waiterToSkip) {
  static auto next =
      libraryFunction<void(Mutex*, Exclusivity, Waiter*)>("_ZN2kj1_5Mutex6unlockENS1_11ExclusivityEPNS1_6WaiterE");
  __tsan_release(this);
  next(this, exclusivity, waiterToSkip);
}

void Mutex::wait(Predicate& predicate, Maybe<Duration> timeout, LockSourceLocationArg location) {
  static auto next = libraryFunction<void(Mutex*, Predicate&, Maybe<Duration>, LockSourceLocationArg)>(
      "_ZN2kj1_5Mutex4waitERNS1_9PredicateENS_5MaybeINS_8QuantityIlNS0_15NanosecondLabelEEEEENS_18NoopSourceLocationE");
  __tsan_release(this);
  next(this, predicate, timeout, location);
  __tsan_acquire(this);
}

}  // namespace _
}  // namespace kj
