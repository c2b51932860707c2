#include <capstan/server/server-state.h>

#include <unistd.h>

#include <cstdio>

#include <capstan/base/path.h>
#include <capstan/base/text.h>
#include <capstan/program-version.h>

namespace capstan::server {

namespace {

uint64_t residentMemory() {
  uint64_t size = 0, resident = 0;
  if (FILE* file = fopen("/proc/self/statm", "re")) {
    if (fscanf(file, "%lu %lu", &size, &resident) != 2) resident = 0;
    fclose(file);
  }
  return resident * uint64_t(sysconf(_SC_PAGESIZE));
}

void add(ConnectionRegistry::Totals& to, const rpc::WireCounters& counters) {
  to.bytesReceived += counters.bytesReceived.load(std::memory_order_relaxed);
  to.bytesSent += counters.bytesSent.load(std::memory_order_relaxed);
  to.messagesReceived += counters.messagesReceived.load(std::memory_order_relaxed);
}

}  // namespace

ConnectionRegistry::Entry::Entry(ConnectionRegistry& registry) : registry(registry) {
  registry.state.lockExclusive()->live.insert(this);
  registry.openNow.fetch_add(1, std::memory_order_relaxed);
  registry.acceptedEver.fetch_add(1, std::memory_order_relaxed);
}

ConnectionRegistry::Entry::~Entry() {
  auto locked = registry.state.lockExclusive();
  locked->live.erase(this);
  add(locked->finished, counters);
  registry.openNow.fetch_sub(1, std::memory_order_relaxed);
}

ConnectionRegistry::Totals ConnectionRegistry::totals() const {
  auto locked = state.lockShared();
  Totals result = locked->finished;
  for (const Entry* entry : locked->live) add(result, entry->counters);
  return result;
}

ConnectionRegistry::Holdings::Holdings(ConnectionRegistry& registry) : registry(registry) {
  registry.state.lockExclusive()->holdings.insert(this);
}

ConnectionRegistry::Holdings::~Holdings() { registry.state.lockExclusive()->holdings.erase(this); }

ConnectionRegistry::Held ConnectionRegistry::held() const {
  auto locked = state.lockShared();
  Held result;
  for (const Holdings* each : locked->holdings) {
    result.openFiles += each->totals.openFiles.load(std::memory_order_relaxed);
    result.uploads += each->totals.uploads.load(std::memory_order_relaxed);
    result.downloads += each->totals.downloads.load(std::memory_order_relaxed);
    result.subscriptions += each->totals.subscriptions.load(std::memory_order_relaxed);
  }
  return result;
}

void fillServerInfo(schema::ServerInfo::Builder info, const ServerState& state, schema::Authentication authentication) {
  info.setName("capstan");
  info.setVersion(CAPSTAN_VERSION);
  info.setProtocolVersion(schema::PROTOCOL_VERSION);
  info.setOldestProtocolVersion(1);
  info.setProcessId(uint32_t(getpid()));
  info.setUptime(state.uptime());
  info.setAuthentication(authentication);
  info.setHost(state.hostName.c_str());
  auto limits = info.initLimits();
  limits.setPath(MAX_PATH_BYTES);
  limits.setMessage(rpc::PeerOptions().maxMessageBytes);
  limits.setRead(files::MAX_READ_BYTES);
  limits.setPut(files::MAX_PUT_BYTES);
  limits.setListEntries(files::MAX_LIST_ENTRIES);
  limits.setOpenFiles(OPEN_FILES_LIMIT);
  limits.setUploads(UPLOADS_LIMIT);
  limits.setSubscriptions(SUBSCRIPTIONS_LIMIT);
  limits.setConnections(state.options.maxConnections);
  limits.setResumeTime(files::FolderOptions().resumeTime);
  limits.setWriteChunk(files::STREAM_CHUNK_BYTES);
  limits.setBatchOperations(files::MAX_BATCH_OPERATIONS);
  limits.setBatches(BATCHES_LIMIT);
  limits.setBatchBytes(files::BATCH_BYTES);
  limits.setBatchStagedBytes(files::BATCH_STAGED_BYTES);
  limits.setTrashTime(storage::TrashLimits().time);
  const compute::ComputeLimits& compute = state.options.compute;
  limits.setValues(compute.values);
  limits.setValueBytes(compute.valueBytes);
  limits.setSortMemory(compute.sortMemory);
  limits.setJobsRunning(compute.jobsRunning);
  limits.setJobsQueued(compute.jobsQueued);
  limits.setJobsKept(compute.jobsKept);
  limits.setJobResultBytes(compute.jobResultBytes);
  limits.setJobResultTime(compute.jobResultTime);
}

void fillStatus(schema::Status::Builder status, const ServerState& state, schema::Authentication authentication) {
  fillServerInfo(status.initInfo(), state, authentication);
  status.setConnections(state.registry.open());
  status.setConnectionsAccepted(state.registry.accepted());
  status.setSessions(state.sessions.load());
  auto held = state.registry.held();
  status.setUploads(held.uploads);
  status.setDownloads(held.downloads);
  status.setOpenFiles(held.openFiles);
  status.setSubscriptions(held.subscriptions);
  auto wire = state.registry.totals();
  status.setBytesReceived(wire.bytesReceived);
  status.setBytesSent(wire.bytesSent);
  status.setCalls(wire.messagesReceived);

  files::FolderFigures figures = state.folder->figures();
  status.setCommits(figures.commits);
  status.setFlushes(figures.flushes);
  status.setTrashBytes(figures.trashBytes);
  auto watch = status.initWatch();
  watch.setMethod(schema::WatchMeans::Method(figures.watch.method));
  watch.setInterval(figures.watch.interval);
  watch.setPartly(figures.watch.partly);
  auto cache = status.initCache();
  cache.setBytes(figures.cache.bytes);
  cache.setLimit(figures.cache.limit);
  cache.setEntries(figures.cache.entries);
  cache.setHits(figures.cache.hits);
  cache.setMisses(figures.cache.misses);
  cache.setEvictions(figures.cache.evictions);
  cache.setPolicy(schema::CachePolicy(figures.cache.policy));

  auto computing = state.computing->figures();
  status.setJobs(computing.jobs);
  status.setComputations(computing.computations);
  status.setValues(computing.values);
  status.setValueBytes(computing.valueBytes);

  status.setResidentMemory(residentMemory());
  status.setThreads(state.threads);
  auto listeners = status.initListeners(unsigned(state.addresses.size()));
  for (unsigned i = 0; i < listeners.size(); ++i) listeners.set(i, state.addresses[i].toString().c_str());
  status.setRoot(escapeForTerminal(state.options.root).c_str());
}

}  // namespace capstan::server
