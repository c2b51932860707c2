# Run at installation: writes the units with the program's place, which is known only then. The folders are those that
# systemd reads for the prefixes /usr and /usr/local; users' units are found below ~/.local, too.
get_filename_component(prefix "${CMAKE_INSTALL_PREFIX}" ABSOLUTE)
set(CAPSTAN_PROGRAM "${prefix}/${CAPSTAN_BINDIR}/capstan")
foreach(kind system user)
  set(folder "${CAPSTAN_UNITS_BUILT}/${kind}")
  configure_file("${CAPSTAN_UNITS}/${kind}/capstan.service.in" "${folder}/capstan.service" @ONLY)
  configure_file("${CAPSTAN_UNITS}/${kind}/capstan.socket" "${folder}/capstan.socket" COPYONLY)
endforeach()
file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/lib/systemd/system" TYPE FILE
  FILES "${CAPSTAN_UNITS_BUILT}/system/capstan.service" "${CAPSTAN_UNITS_BUILT}/system/capstan.socket")
file(INSTALL DESTINATION "${CMAKE_INSTALL_PREFIX}/share/systemd/user" TYPE FILE
  FILES "${CAPSTAN_UNITS_BUILT}/user/capstan.service" "${CAPSTAN_UNITS_BUILT}/user/capstan.socket")
