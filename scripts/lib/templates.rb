# What a job's ERB templates can see when the Director renders them, and when `bosh create-env` does: properties after the
# spec's defaults, the instance, links. Stricter than both: asking for a property that the job's spec does not have, or
# for a field of the instance that is not there, is an error here and nil there.
require 'erb'
require 'json'
require 'yaml'

module Templates
  class Fault < StandardError; end

  # What follows a block that ran, or did not: `if_p(...) { } .else { }`.
  class Otherwise
    def initialize(context, pending)
      @context = context
      @pending = pending
    end

    def else
      yield if @pending
    end

    def else_if_p(*names, &block)
      @pending ? @context.if_p(*names, &block) : self
    end

    def else_if_link(name, &block)
      @pending ? @context.if_link(name, &block) : self
    end
  end

  # The lookup that contexts, links and linked instances share.
  module Properties
    def p(names, *default)
      found = Array(names).map { |name| look_up(name) }.find { |value| !value.nil? }
      return found unless found.nil?
      raise Fault, "Can't find property '#{Array(names).join("', or '")}'" if default.empty?

      default.first
    end

    def if_p(*names)
      values = names.map { |name| look_up(name) }
      return Otherwise.new(self, true) if values.any?(&:nil?)

      yield(*values)
      Otherwise.new(self, false)
    end

    private

    def look_up(name)
      name.split('.').reduce(@properties) do |at, key|
        break nil if at.nil?
        raise Fault, "#{name}: #{key} is looked up in a #{at.class}" unless at.is_a?(Hash)

        at[key]
      end
    end
  end

  class Instance
    def initialize(fields)
      fields.each { |name, value| define_singleton_method(name) { value } }
    end
  end

  class LinkedInstance < Instance
    include Properties

    def initialize(fields)
      @properties = fields.fetch('properties', {})
      super(fields.except('properties'))
    end
  end

  class Link
    include Properties
    attr_reader :instances

    def initialize(fields)
      @properties = fields.fetch('properties', {})
      @instances = fields.fetch('instances').map { |one| LinkedInstance.new(one) }
      @address = fields['address']
    end

    def address(**_criteria)
      @address
    end
  end

  class CreateEnv
    include Properties
    attr_reader :spec, :name, :index

    def initialize(job_spec, given, instance)
      @known = job_spec.fetch('properties', {})
      @properties = {}
      @known.each { |name, details| put(name, take(name, given), (details || {})['default']) }
      @spec = Instance.new(instance)
      @name = job_spec['name']
      @index = instance['index']
    end

    def if_link(_name)
      false
    end

    def evaluate(template)
      template.result(binding)
    end

    private

    def look_up(name)
      known = @known.keys.any? { |one| one == name || one.start_with?("#{name}.") || name.start_with?("#{one}.") }
      raise Fault, "#{name} is not a property of the job's spec" unless known

      super
    end

    def take(name, given)
      name.split('.').reduce(given) do |at, key|
        break nil if at.nil?
        raise Fault, "Property '#{name}' expects a hash, but received '#{at.class}'" unless at.is_a?(Hash)

        at[key]
      end
    end

    def put(name, value, default)
      *path, last = name.split('.')
      path.reduce(@properties) { |at, key| at[key] ||= {} }[last] = value.nil? ? default : value
    end
  end

  class Director < CreateEnv
    def initialize(job_spec, given, instance, links)
      super(job_spec, given, instance)
      @links = links
    end

    def link(name)
      raise Fault, "Can't find link '#{name}'" unless @links.key?(name)

      Link.new(@links[name])
    end

    def if_link(name)
      return Otherwise.new(self, true) unless @links.key?(name)

      yield link(name)
      Otherwise.new(self, false)
    end
  end

  # Renders one job: { destination => content }, and the messages of the templates that refused.
  def self.render(request)
    directory = request.fetch('job')
    job_spec = YAML.safe_load_file(File.join(directory, 'spec'))
    instance = { 'name' => 'credhub', 'index' => 0, 'id' => '4f1c', 'deployment' => 'test', 'networks' => {},
                 'ip' => '10.0.0.5', 'release' => { 'name' => 'hsm-kms-plugin', 'version' => '1' } }
    create_env = request['mode'] == 'create-env'
    instance.merge!(create_env ? { 'address' => nil, 'az' => 'unknown', 'bootstrap' => true } : { 'address' => '10.0.0.5', 'az' => 'z1', 'bootstrap' => true })
    instance.merge!(request.fetch('spec', {}))

    files = {}
    errors = []
    job_spec.fetch('templates').merge('../monit' => 'monit').each do |source, destination|
      context = if create_env
                  CreateEnv.new(job_spec, request.fetch('properties'), instance)
                else
                  Director.new(job_spec, request.fetch('properties'), instance, request.fetch('links', {}))
                end
      template = ERB.new(File.read(File.join(directory, 'templates', source)), trim_mode: '-')
      template.filename = source
      files[destination] = context.evaluate(template)
    rescue Exception => e # rubocop:disable Lint/RescueException
      errors << { 'template' => source, 'message' => e.message }
    end
    { 'files' => files, 'errors' => errors }
  end
end

print JSON.generate(JSON.parse($stdin.read).map { |request| Templates.render(request) }) if $PROGRAM_NAME == __FILE__
