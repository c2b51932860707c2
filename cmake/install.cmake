# Installs the client library and the synchroniser with their headers, and the files by which others find them: a CMake
# package, so that find_package(capstan) gives capstan::client and capstan::sync, and capstan-client.pc for pkg-config. Component "development"; the program
# itself is installed where it is made.
include(CMakePackageConfigHelpers)

set(CAPSTAN_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/capstan)
set(CAPSTAN_CLIENT_LIBRARIES capstan-client capstan-rpc capstan-base capstan-schema)
set(CAPSTAN_SYNC_LIBRARIES capstan-sync capstan-sync-core capstan-storage)

# The log is written with spdlog, which users of the library neither see nor need the headers of: only its shared library
# has to be there, and is linked by the name that programs load it by.
function(capstan_link_name result target)
  get_target_property(type ${target} TYPE)
  get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
  list(GET configurations 0 configuration)
  if(type STREQUAL SHARED_LIBRARY)
    get_target_property(name ${target} IMPORTED_SONAME_${configuration})
  else()
    get_target_property(name ${target} IMPORTED_LOCATION_${configuration})
  endif()
  get_filename_component(name ${name} NAME)
  set(${result} "-l:${name}" PARENT_SCOPE)
endfunction()
capstan_link_name(CAPSTAN_LINK_SPDLOG spdlog::spdlog)
capstan_link_name(CAPSTAN_LINK_FMT fmt::fmt)
target_link_libraries(capstan-base INTERFACE $<INSTALL_INTERFACE:${CAPSTAN_LINK_SPDLOG}>
                                             $<INSTALL_INTERFACE:${CAPSTAN_LINK_FMT}>)
target_compile_features(capstan-base INTERFACE cxx_std_20)

install(TARGETS ${CAPSTAN_CLIENT_LIBRARIES} ${CAPSTAN_SYNC_LIBRARIES} EXPORT capstanTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(EXPORT capstanTargets NAMESPACE capstan:: DESTINATION ${CAPSTAN_CMAKE_DIR} COMPONENT development)

install(DIRECTORY src/base src/rpc DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/capstan COMPONENT development
  FILES_MATCHING PATTERN *.h)
install(FILES src/client/blocking-client.h src/client/client.h src/client/compute.h
  src/client/share.h src/client/transfer-types.h src/client/trash.h src/client/watch.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/capstan/client COMPONENT development)
install(FILES src/sync/ignore.h src/sync/node.h src/sync/plan.h src/sync/safety.h src/sync/service.h src/sync/state.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/capstan/sync COMPONENT development)
install(FILES ${CAPSTAN_SCHEMA_HEADERS} schema/common.capnp schema/access.capnp schema/files.capnp schema/compute.capnp schema/gateway.capnp
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/capstan/schema COMPONENT development)

configure_package_config_file(cmake/capstanConfig.cmake.in ${PROJECT_BINARY_DIR}/capstanConfig.cmake
  INSTALL_DESTINATION ${CAPSTAN_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/capstanConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/capstanConfig.cmake ${PROJECT_BINARY_DIR}/capstanConfigVersion.cmake
  DESTINATION ${CAPSTAN_CMAKE_DIR} COMPONENT development)

# The prefix is where the file itself is found, so that an installation can be moved.
file(RELATIVE_PATH CAPSTAN_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/capstan-client.pc.in ${PROJECT_BINARY_DIR}/capstan-client.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/capstan-client.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)
